"""What takes too long, and what nobody wants any more, is stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.helpers import SECONDS, Ledger, check_history, of_type
from wonder_ray.definitions.builder import Workflow
from wonder_ray.errors import RunFailedError
from wonder_ray.logs.query import LogReader

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from wonder_ray.client import Client, Run

LONG = 600.0


def long_flow(action: Any, name: str, *, timeout_s: float | None = None, run_timeout_s: float | None = None) -> Workflow:
    flow = Workflow(name, output={"after": "state.after"}, timeout_s=run_timeout_s)
    given = {"seconds": "input.seconds", "ledger": "input.ledger"}
    flow.node("long", action, input=given, timeout_s=timeout_s, output={"state.after": "'done'"}, start=True)
    return flow


def begin(client: Client, flow: Workflow, ledger: Ledger, seconds: float = LONG) -> Run:
    return client.start(flow, {"seconds": seconds, "ledger": str(ledger)})


def is_over(pid: int, ledger: Ledger) -> bool:
    """Whether the process that ran the action does so no more: it is gone, or idle."""
    try:
        return b"IDLE" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("kind", ["loop_for", "sleep_for", "finish_late"])
def test_an_attempt_that_takes_too_long_is_stopped_and_fails_the_run(
    client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil, kind: str
) -> None:
    run = begin(client, long_flow(getattr(actions, kind), f"too-long-{kind}".replace("_", "-"), timeout_s=3), ledger)
    with pytest.raises(RunFailedError) as caught:
        run.result(SECONDS)
    assert caught.value.error is not None
    assert (caught.value.error["type"], caught.value.error["node_id"]) == ("Timeout", "long")
    rows = check_history(client, run, wait_until)
    assert len(of_type(rows, "token.timed_out")) == 1
    (execution,) = ledger.executions()
    wait_until(lambda: is_over(execution.pid, ledger), SECONDS, what="the action to be stopped")


def test_a_timeout_can_be_handled(client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil) -> None:
    flow = long_flow(actions.loop_for, "handled-timeout", timeout_s=2)
    flow.compute("instead", output={"state.after": "'handled'"})
    flow.transition("long", "instead", on="timed_out")
    run = begin(client, flow, ledger)
    assert run.result(SECONDS) == {"after": "handled"}
    check_history(client, run, wait_until)


def test_a_run_has_a_time_limit_of_its_own(client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil) -> None:
    run = begin(client, long_flow(actions.loop_for, "run-timeout", run_timeout_s=2), ledger)
    with pytest.raises(RunFailedError) as caught:
        run.result(SECONDS)
    assert caught.value.status == "timed_out"
    check_history(client, run, wait_until)


def test_a_cancelled_run_stops_its_tasks(client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil) -> None:
    run = begin(client, long_flow(actions.loop_for, "cancelled"), ledger)
    wait_until(ledger.executions, SECONDS, what="the action to run")
    began = time.monotonic()
    run.cancel("not needed", key="once")
    run.cancel("not needed", key="once")
    record = run.wait(SECONDS)
    assert record is not None
    assert record.status == "cancelled"
    assert time.monotonic() - began < SECONDS / 2
    rows = check_history(client, run, wait_until)
    assert [row["reason"] for row in of_type(rows, "workflow.cancel_requested")] == ["not needed"]
    (execution,) = ledger.executions()
    wait_until(lambda: is_over(execution.pid, ledger), SECONDS, what="the action to be stopped")
    run.cancel("again")
    assert run.record().events == len(rows)


def test_a_result_that_comes_too_late_is_refused(client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil) -> None:
    """The action outlives its timeout by less than the grace period, while the run goes on elsewhere."""
    flow = long_flow(actions.finish_late, "late-result", timeout_s=2)
    flow.node("patient", actions.wait_for, input={"path": "input.gate"}, output={"state.after": "'late'"})
    flow.transition("long", "patient", on="timed_out")
    gate = ledger.path.with_name("gate")
    run = client.start(flow, {"seconds": 3.0, "ledger": str(ledger), "gate": str(gate)})
    reader = LogReader(client.storage.root)
    found = wait_until(lambda: reader.search(trace_id=run.id, event_type="late_result_refused"), SECONDS, what="the refusal")
    gate.touch()
    assert run.result(SECONDS) == {"after": "late"}
    assert found[0].attempt == 1
    rows = check_history(client, run, wait_until)
    assert [row["node_id"] for row in of_type(rows, "task.completed")] == ["patient"]
