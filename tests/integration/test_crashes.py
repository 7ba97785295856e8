"""Processes die at bad moments: the run goes on, to the same result, and nothing counts twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray

from tests.core import CoreRun
from tests.integration.helpers import (
    SECONDS,
    Ledger,
    check_history,
    completed_tokens,
    coordinator_pid,
    fan_out,
    in_flight_at_restart,
    kill_hard,
    of_type,
    rows_of,
    service_pid,
)
from wonder_ray.bundles.loader import load_installed
from wonder_ray.coordinator.actor import CoordinatorActor
from wonder_ray.interop.wfformat import import_wfformat
from wonder_ray.storage.lock import RunLock

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from wonder_ray.client import Client, Run
    from wonder_ray.definitions.models import WorkflowDefinition

ITEMS = 200


def begin(client: Client, actions: Any, ledger: Ledger, name: str, *, seconds: float = 0.05, items: int = ITEMS) -> Run:
    return client.start(fan_out(actions, name, seconds=seconds), {"n": items, "ledger": str(ledger)})


def until_executed(ledger: Ledger, count: int, wait_until: WaitUntil) -> None:
    wait_until(lambda: len(ledger.executions()) >= count, SECONDS, what=f"{count} executions")


def check_result(run: Run, items: int = ITEMS) -> None:
    assert run.result(SECONDS) == {"squares": [n * n for n in range(items)]}


def check_effects(rows: list[dict[str, Any]], ledger: Ledger, items: int = ITEMS) -> None:
    """Each node once, each token once, and what was executed twice was in flight when a coordinator died."""
    completed = Counter(row["node_id"] for row in of_type(rows, "node_completed"))
    assert completed == {"spread": 1, "square": items, "done": 1}
    assert len({row["token_id"] for row in of_type(rows, "task.completed")}) == items + 1
    executions = ledger.executions()
    assert len({execution.token for execution in executions}) == items
    assert len(executions) - items <= in_flight_at_restart(rows)
    assert len(set(executions)) == len(executions), "a token and attempt ran twice in one epoch"


def check_resumed(rows: list[dict[str, Any]], times: int) -> None:
    resumed = of_type(rows, "run.resumed")
    assert len(resumed) == times
    assert [row["epoch"] for row in resumed] == sorted({row["epoch"] for row in resumed})
    assert [row["previous_epoch"] < row["epoch"] for row in resumed] == [True] * times
    assert of_type(rows, "task.failed") == [], "a coordinator's death is nobody's failure"


def test_a_coordinator_killed_halfway_goes_on_where_it_was(
    client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil
) -> None:
    run = begin(client, actions, ledger, "killed-once")
    until_executed(ledger, 80, wait_until)
    kill_hard(coordinator_pid(client, run, wait_until))
    check_result(run)
    rows = check_history(client, run, wait_until)
    check_resumed(rows, 1)
    assert [row["epoch"] for row in of_type(rows, "run.resumed")] == [2]
    check_effects(rows, ledger)


def test_a_coordinator_killed_again_and_again_gets_to_the_end(
    client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil
) -> None:
    run = begin(client, actions, ledger, "killed-often", seconds=0.03)
    killed: set[int] = set()

    def successor() -> set[int]:
        return {coordinator_pid(client, run, wait_until)} - killed

    for count in (10, 60, 120):
        until_executed(ledger, count, wait_until)
        (pid,) = wait_until(successor, SECONDS, what="the successor")
        killed.add(pid)
        kill_hard(pid)
    check_result(run)
    rows = check_history(client, run, wait_until)
    check_resumed(rows, 3)
    check_effects(rows, ledger)


def test_a_coordinator_killed_before_its_first_turn_begins_anew(
    client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil
) -> None:
    run = begin(client, actions, ledger, "killed-early", items=10)
    lock = RunLock(client.storage.lock_file(run.id))
    assert lock.try_acquire({"pid": os.getpid()}), "the test is faster than a process starts"
    actor = wait_until(lambda: actor_of(run), SECONDS, what="the coordinator")
    kill_hard(ray.get(actor.ping.remote(), timeout=SECONDS)["pid"])
    lock.release()
    check_result(run, 10)
    rows = check_history(client, run, wait_until)
    check_resumed(rows, 0)
    check_effects(rows, ledger, 10)


def actor_of(run: Run) -> Any:
    try:
        return ray.get_actor(f"run:{run.id}", namespace="wonder")
    except ValueError:
        return None


@pytest.mark.parametrize("service", ["events", "resources", "logs", "directory"])
def test_a_run_survives_the_death_of_a_service(
    client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil, service: str
) -> None:
    run = begin(client, actions, ledger, f"without-{service}", seconds=0.03)
    until_executed(ledger, 40, wait_until)
    pid = service_pid(service)
    kill_hard(pid)
    check_result(run)
    rows = check_history(client, run, wait_until)
    check_effects(rows, ledger)
    check_resumed(rows, 1 if service == "directory" else 0)
    assert service_pid(service) != pid


def test_a_run_begins_while_the_services_restart(client: Client, actions: Any, ledger: Ledger) -> None:
    before = {record.run_id for record in client.runs(workflow="patient-start", limit=100)}
    flow = fan_out(actions, "patient-start")
    client.register(flow)
    kill_hard(service_pid("resources"))
    kill_hard(service_pid("events"))
    run = client.start(flow, {"n": 3, "ledger": str(ledger)})
    check_result(run, 3)
    assert {record.run_id for record in client.runs(workflow="patient-start", limit=100)} - before == {run.id}


def test_of_two_coordinators_of_one_run_one_acts(client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil) -> None:
    run = begin(client, actions, ledger, "twice", seconds=0.02)
    pid = coordinator_pid(client, run, wait_until)
    rival = start_rival(run, client.storage.root)
    assert ray.get(rival.ping.remote(), timeout=SECONDS)["pid"] != pid
    check_result(run)
    rows = check_history(client, run, wait_until)
    assert {row["epoch"] for row in rows} == {1}
    check_effects(rows, ledger)
    ray.kill(rival)


def start_rival(run: Run, storage: Path) -> Any:
    """A coordinator that the directory knows nothing of, as after a partition."""
    made = ray.remote(num_cpus=0)(CoordinatorActor)
    return made.options(name=f"rival:{run.id}", namespace="wonder").remote(run.id, str(storage), "wonder")


def test_a_stopped_coordinator_that_wakes_after_its_successor_has_no_effect(
    client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil, tmp_path: Path
) -> None:
    # One at a time: a stopped owner keeps the CPUs that its tasks had.
    flow = fan_out(actions, "zombie", seconds=0.05, max_concurrency=1)
    run = client.start(flow, {"n": 20, "ledger": str(ledger)})
    until_executed(ledger, 5, wait_until)
    pid = coordinator_pid(client, run, wait_until)
    os.kill(pid, signal.SIGSTOP)
    try:
        elsewhere = copy_as_on_another_machine(client, run, tmp_path)
        rival = start_rival(run, elsewhere)
        snapshot = ray.get(rival.wait.remote(SECONDS), timeout=2 * SECONDS)
        assert (snapshot.status, snapshot.epoch) == ("completed", 2)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), SECONDS, what="the old coordinator to end itself")
    check_result(run, 20)
    rows = rows_of(run)
    assert [row["sequence_number"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["event_type"] for row in rows].count("workflow.completed") == 1
    assert [row["epoch"] for row in rows] == sorted(row["epoch"] for row in rows)
    assert Counter(row["node_id"] for row in of_type(rows, "node_completed"))["square"] == 20
    assert run.record().epoch == 2


def copy_as_on_another_machine(client: Client, run: Run, folder: Path) -> Path:
    """The run's file without its locks, and the code; the services stay where they are."""
    elsewhere = folder / "elsewhere"
    (elsewhere / "runs").mkdir(parents=True)
    shutil.copytree(client.storage.blobs, elsewhere / "blobs")
    for file in client.storage.runs.glob(f"{run.id}.sqlite*"):
        shutil.copy(file, elsewhere / "runs")
    return elsewhere


# --- an imported workflow ------------------------------------------------------------------------------------------


def recording(folder: Path, layers: int = 6, width: int = 20) -> Path:
    """A WfFormat file: every task of a layer depends on three of the layer before."""
    names = [[f"task_{layer}_{i}" for i in range(width)] for layer in range(layers)]
    parents = {
        name: [] if layer == 0 else [names[layer - 1][(i + k) % width] for k in range(3)]
        for layer, row in enumerate(names)
        for i, name in enumerate(row)
    }
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, above in parents.items():
        for parent in above:
            children[parent].append(name)
    tasks = [
        {"name": name, "id": name, "parents": parents[name], "children": children[name], "inputFiles": [], "outputFiles": []}
        for name in parents
    ]
    executed = [{"id": name, "runtimeInSeconds": 1.0} for name in parents]
    workflow = {"specification": {"tasks": tasks}, "execution": {"tasks": executed}}
    file = folder / "recording.json"
    file.write_text(json.dumps({"name": "layers", "schemaVersion": "1.5", "workflow": workflow}))
    return file


def expected(definition: WorkflowDefinition) -> Any:
    """What the core makes of it."""
    functions = {node.id: load_installed(node.action) for node in definition.nodes if node.kind == "action"}
    return CoreRun(definition, functions, checked=False).run().output


def test_an_imported_workflow_survives_its_coordinator(client: Client, tmp_path: Path, wait_until: WaitUntil) -> None:
    file = recording(tmp_path)
    run = client.start(import_wfformat(file, runtime_scale=0.04))
    wait_until(lambda: completed_tokens(run) >= 40, SECONDS, what="a third of the tasks")
    kill_hard(coordinator_pid(client, run, wait_until))
    assert run.result(SECONDS) == expected(import_wfformat(file))
    rows = check_history(client, run, wait_until)
    check_resumed(rows, 1)
    assert set(Counter(row["node_id"] for row in of_type(rows, "node_completed")).values()) == {1}
    assert len(of_type(rows, "node_completed")) == 121
