"""Forks on Ray: they begin where another run stood, repeat nothing that was finished, and can bring mended code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.helpers import SECONDS, Ledger, check_history, coordinator_pid, kill_hard, of_type
from tests.integration.test_talking import waiting
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.models import Retry
from wonder_ray.errors import DefinitionError, KeyConflictError, RunFailedError, WonderError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import WaitUntil
    from wonder_ray.client import Client, Run


def adding(actions: Any, *, mended: bool) -> Workflow:
    """L1: value starts at 1; `one` adds 2; `two` fails twice, and adds 3 once it is mended."""
    flow = Workflow("adding", output={"value": "1 + state.one + state.two"})
    flow.node("one", actions.noted_square, input={"n": "1", "ledger": "input"}, output={"state.one": "result + 1"})
    retry = Retry(max_attempts=2, backoff_s=0.1, jitter=0)
    if mended:
        flow.node(
            "two", actions.noted_square, input={"n": "2", "ledger": "input"}, output={"state.two": "result - 1"}, retry=retry
        )
    else:
        flow.node("two", actions.noted_failure, input={"ledger": "input"}, output={"state.two": "result"}, retry=retry)
    return flow


def calls(ledger: Ledger) -> dict[str, int]:
    nodes = [execution.node for execution in ledger.executions()]
    return {node: nodes.count(node) for node in sorted(set(nodes))}


def failed(run: Run) -> None:
    with pytest.raises(RunFailedError, match="ValueError"):
        run.result(SECONDS)


def test_a_failed_run_goes_on_as_a_fork_and_its_finished_branch_is_not_repeated(
    client: Client, actions: Any, ledger: Ledger, wait_until: WaitUntil
) -> None:
    run = client.start(adding(actions, mended=False), str(ledger), labels={"team": "x"})
    failed(run)
    assert calls(ledger) == {"one": 1, "two": 2}
    again = run.fork(key="l1-again")
    failed(again)
    assert calls(ledger) == {"one": 1, "two": 4}
    assert run.fork(key="l1-again").id == again.id
    with pytest.raises(KeyConflictError, match="another fork"):
        run.fork(set={"state.one": 5}, key="l1-again")
    mended = again.restart_from("two", flow=adding(actions, mended=True))
    assert mended.result(SECONDS) == {"value": 6}
    assert calls(ledger) == {"one": 1, "two": 5}
    record = mended.record()
    assert (record.labels, record.root_run_id) == ({"team": "x"}, mended.id)
    assert record.workflow_version != run.record().workflow_version
    rows = check_history(client, mended, wait_until)
    (forked,) = of_type(rows, "run.forked")
    assert forked["source"]["run_id"] == again.id
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: run.fork(at=10_000), "has no event 10000"),
        (lambda: run.fork(at=run.record().events), "no fork can begin after event"),
        (lambda: run.restart_from("nowhere"), "never begun"),
        (lambda: run.fork(set={"input.n": 1}), "must start with state or output"),
    ]
    for begin, why in refused:
        with pytest.raises(WonderError, match=why):
            begin()
    lacking = Workflow("adding")
    lacking.compute("one")
    with pytest.raises(DefinitionError, match="node 'two'"):
        run.fork(flow=lacking)


def test_a_run_that_waits_is_forked_with_changes_while_its_coordinators_die(
    client: Client, actions: Any, wait_until: WaitUntil, tmp_path: Path
) -> None:
    flow = Workflow("choosing", output={"n": "state.n", "said": "state.said"})
    flow.node("square", actions.square, input={"n": "3"}, output={"state.n": "result"})
    flow.gate("sure", bool, output={"state.said": "result"})
    flow.transition("square", "sure")
    run = client.start(flow, {})
    waiting(run, wait_until)
    fork = run.fork(set={"state.n": 4})
    waiting(fork, wait_until)
    kill_hard(coordinator_pid(client, fork, wait_until))
    assert fork.answer("sure", answer=True)["accepted"]
    assert fork.result(SECONDS) == {"n": 4, "said": True}
    assert run.query("state.n") == 9
    assert len(run.gates()) == 1
    assert run.answer("sure", answer=False)["accepted"]
    assert run.result(SECONDS) == {"n": 9, "said": False}
    for each in (run, fork):
        rows = check_history(client, each, wait_until)
        assert len(of_type(rows, "task.completed")) == (1 if each is run else 0)
    second = fork.fork()
    assert second.answer("sure", answer=False)["accepted"]
    assert second.result(SECONDS) == {"n": 4, "said": False}
