"""A worker node that is lost while its tasks run, and another one that comes instead."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.clusters import head_with_dashboard, kill_node
from wonder_ray.reading import Reader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WaitUntil

pytestmark = [pytest.mark.ray, pytest.mark.slow]
TASKS = 6
FLOW = """
import time
from pathlib import Path
import wonder_ray as wonder


def work(n: int, folder: str) -> int:
    (Path(folder) / f"{wonder.current().token_id}.{wonder.current().attempt}").touch()
    while not (Path(folder) / "go").exists():
        time.sleep(0.02)
    return n * n


flow = wonder.Workflow("patient", output={"squares": "state.squares"})
flow.compute("list", output={"state.list": "[0, 1, 2, 3, 4, 5]"})
flow.node("work", work, input={"n": "item", "folder": "input.folder"}, num_cpus=1, batch=1)
flow.compute("done")
flow.transition("list", "work", foreach="state.list", group="works")
flow.transition("work", "done", join=wonder.All("works", merge=wonder.Append("state.squares")))
"""


@pytest.mark.timeout(240)
def test_a_lost_worker_costs_the_tasks_that_it_had(tmp_path: Path, wait_until: WaitUntil) -> None:
    (tmp_path / "patient.py").write_text(FLOW)
    marks = tmp_path / "marks"
    marks.mkdir()
    with head_with_dashboard(tmp_path / "storage") as cluster:
        at = ("--address", cluster.gcs, "--storage", cluster.storage)
        with cluster.worker(num_cpus=2) as lost:
            asked = ("--input", json.dumps({"folder": str(marks)}), "--detach", "--json")
            begun = cluster.wonder("run", tmp_path / "patient.py", *at, *asked)
            assert begun.returncode == 0, begun.stderr
            run_id = json.loads(begun.stdout)["run_id"]
            wait_until(lambda: len(list(marks.iterdir())) == 2, 60, what="as many tasks as the node has CPUs")
            kill_node(lost)
        (marks / "go").touch()
        with cluster.worker(num_cpus=2):
            ended = cluster.wonder("resume", run_id, *at, "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["output"] == {"squares": [n * n for n in range(TASKS)]}
    events = Reader(cluster.storage).events(run_id)
    assert [event.sequence_number for event in events] == list(range(1, len(events) + 1))
    completed = Counter(event.token_id for event in events if event.event_type == "task.completed")
    assert sorted(completed.values()) == [1] * TASKS
    failed = [event for event in events if event.event_type == "task.failed"]
    begun_twice = {mark.stem for mark in marks.iterdir() if mark.suffix == ".2"}
    assert {event.token_id for event in failed} == begun_twice
    assert len(begun_twice) >= 2
    assert {event.attempt for event in failed} == {1}
