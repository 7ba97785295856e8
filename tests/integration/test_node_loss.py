"""Nodes that are lost while a run goes on: a worker with its tasks, and the head with all services and coordinators."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.clusters import Cluster, head_with_dashboard, kill_node
from wonder_ray.reading import Reader

if TYPE_CHECKING:
    import subprocess
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


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """A folder where tasks note that they have begun, and wait for a file `go`."""
    (tmp_path / "patient.py").write_text(FLOW)
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def begin(cluster: Cluster, marks: Path) -> str:
    """Start the run, and leave it alone."""
    asked = ("--input", json.dumps({"folder": str(marks)}), "--detach", "--json")
    begun = cluster.wonder("run", marks.parent / "patient.py", *at(cluster), *asked)
    assert begun.returncode == 0, begun.stderr
    return str(json.loads(begun.stdout)["run_id"])


def at(cluster: Cluster) -> tuple[object, ...]:
    return "--address", cluster.gcs, "--storage", cluster.storage


def check(ended: subprocess.CompletedProcess[str], storage: Path, run_id: str, marks: Path, reason: str) -> None:
    """Everything was made, nothing counted twice, and the events give a reason for whatever was begun twice."""
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["output"] == {"squares": [n * n for n in range(TASKS)]}
    events = Reader(storage).events(run_id)
    assert [event.sequence_number for event in events] == list(range(1, len(events) + 1))
    completed = Counter(event.token_id for event in events if event.event_type == "task.completed")
    assert sorted(completed.values()) == [1] * TASKS
    lost = {event.token_id for event in events if event.event_type == reason}
    begun_twice = {mark.stem for mark in marks.iterdir() if mark.suffix == ".2"}
    assert len(begun_twice) >= 2
    assert lost >= begun_twice


@pytest.mark.timeout(240)
def test_a_lost_worker_costs_the_tasks_that_it_had(tmp_path: Path, marks: Path, wait_until: WaitUntil) -> None:
    with head_with_dashboard(tmp_path / "storage") as cluster:
        with cluster.worker(num_cpus=2) as lost:
            run_id = begin(cluster, marks)
            wait_until(lambda: len(list(marks.iterdir())) == 2, 60, what="as many tasks as the node has CPUs")
            kill_node(lost)
        (marks / "go").touch()
        with cluster.worker(num_cpus=2):
            ended = cluster.wonder("resume", run_id, *at(cluster), "--json")
    check(ended, cluster.storage, run_id, marks, "task.failed")


@pytest.mark.timeout(240)
def test_a_new_head_with_the_disk_of_a_lost_one_goes_on_with_its_runs(tmp_path: Path, marks: Path, wait_until: WaitUntil) -> None:
    """With all that lived there: Ray's own state, the services, the coordinators. Its workers have ended with it."""
    storage = tmp_path / "storage"
    with head_with_dashboard(storage) as lost, lost.worker(num_cpus=2) as worker:
        run_id = begin(lost, marks)
        wait_until(lambda: len(list(marks.iterdir())) == 2, 60, what="as many tasks as the node has CPUs")
        kill_node(lost.process)
        kill_node(worker)
    (marks / "go").touch()
    with head_with_dashboard(storage) as cluster, cluster.worker(num_cpus=2):
        assert cluster.wonder("up", *at(cluster)).returncode == 0
        reader = Reader(storage)
        wait_until(lambda: reader.record(run_id).ended, 60, what="the run to end, which nobody has asked for")
        ended = cluster.wonder("resume", run_id, *at(cluster), "--json")
    check(ended, storage, run_id, marks, "token.requeued")
