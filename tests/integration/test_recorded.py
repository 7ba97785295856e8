"""Recorded workflows on a real Ray: the digest that only honoured edges give, also when the coordinator is killed half-way."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.integration.helpers import SECONDS, check_history, completed_tokens, coordinator_pid, kill_hard
from wonder_ray.interop.wfformat import import_wfformat

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from wonder_ray.client import Client, Run

SHARED: Final = Path(__file__).resolve().parents[3] / "shared" / "data" / "wfinstances"
SCALES: Final = {
    "bacass-dirt02-001.json": 0.001,
    "soykb-chameleon-10fastq-10ch-001.json": 0.0005,
    "taxprofiler-dirt02-001.json": 0.001,
    "bwa-chameleon-large-003.json": 0.0002,
    "montage-wfgen-5300-seed20260101.json": 0.0,
}
"""File -> runtime scale that makes it last long enough to be killed half-way, and no longer."""


def recorded(name: str) -> tuple[Path, str]:
    """A file, and the digest that its folder's README gives for it."""
    if not (SHARED / name).is_file():
        pytest.skip(f"the recorded workflow {name} is not beside the clone, in ../shared/data/{SHARED.name}")
    found = re.search(rf"^\| {re.escape(name)} \| `([0-9a-f]{{64}})`", (SHARED / "README.md").read_text(), re.MULTILINE)
    assert found is not None
    return SHARED / name, found[1]


@pytest.mark.parametrize("name", SCALES)
def test_a_recorded_workflow_gives_its_digest(client: Client, wait_until: WaitUntil, name: str) -> None:
    file, digest = recorded(name)
    definition = import_wfformat(file)
    run = client.start(definition)
    assert run.result(SECONDS) == {"digest": digest, "tasks": len(definition.nodes) - 1}
    check_once(client, run, wait_until, len(definition.nodes))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name.startswith("soykb") else (pytest.mark.slow,)) for name in SCALES]
)
def test_it_does_although_its_coordinator_is_killed_halfway(client: Client, wait_until: WaitUntil, name: str) -> None:
    file, digest = recorded(name)
    definition = import_wfformat(file, runtime_scale=SCALES[name])
    run = client.start(definition)
    pid = coordinator_pid(client, run, wait_until)
    wait_until(lambda: completed_tokens(run) >= len(definition.nodes) // 3, SECONDS, what="a third of the tasks")
    kill_hard(pid)
    assert run.result(SECONDS) == {"digest": digest, "tasks": len(definition.nodes) - 1}
    check_once(client, run, wait_until, len(definition.nodes))
    assert run.record().epoch == 2, "it was killed too late to matter"


def check_once(client: Client, run: Run, wait_until: WaitUntil, nodes: int) -> None:
    """Its history is whole, and each task completed exactly once."""
    rows = check_history(client, run, wait_until)
    done = Counter(row["node_id"] for row in rows if row["event_type"] == "node_completed")
    assert (len(done), set(done.values())) == (nodes, {1})
