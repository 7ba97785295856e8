"""Child runs on Ray: they complete, fail, are cancelled and recur, whoever dies meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.helpers import (
    SECONDS,
    Ledger,
    check_history,
    coordinator_pid,
    kill_hard,
    of_type,
    rows_of,
    service_pid,
)
from tests.integration.test_talking import waiting
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.joins import All, Append
from wonder_ray.errors import RunFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WaitUntil
    from wonder_ray.client import Client, Run


def children_of(client: Client, run: Run) -> list[Run]:
    """The child runs of a run, oldest first."""
    return [client.run(record.run_id) for record in client.runs(parent_run_id=run.id)][::-1]


def page(actions: Any, name: str) -> Workflow:
    """A child that waits for a file, and squares its number; it fails at 13."""
    flow = Workflow(name, input={"type": "object", "required": ["n"]}, output={"square": "state.square"})
    given = {"path": "input.path", "ledger": "input.ledger"}
    flow.node("wait", actions.wait_for, input=given, num_cpus=0.1)  # five at once fit beside all else
    flow.node("square", actions.square, input={"n": "input.n"}, output={"state.square": "result"})
    flow.node("unlucky", actions.raise_value_error, input={"n": "input.n"})
    flow.transition("wait", "unlucky", when="input.n == 13")
    flow.transition("wait", "square", priority=1)
    return flow


def site(actions: Any, name: str) -> Workflow:
    """A parent with a child per number, whose failures go to a handler."""
    flow = Workflow(name, output={"all": "state.all"})
    flow.compute("begin")
    given = {"n": "item", "path": "input.path", "ledger": "input.ledger"}
    flow.subworkflow("page", page(actions, f"{name}-page"), input=given, output={"state.one": "result.square"})
    flow.compute("instead", output={"state.one": "error.type"})
    flow.compute("end")
    flow.transition("begin", "page", foreach="input.numbers", group="pages")
    flow.transition("page", "instead", on="failed[ValueError]")
    flow.transition(["page", "instead"], "end", join=All("pages", merge=Append("state.all", "state.one")))
    return flow


@pytest.fixture
def given(tmp_path: Path, ledger: Ledger) -> dict[str, Any]:
    return {"path": str(tmp_path / "gate"), "ledger": str(ledger)}


def test_children_complete_and_fail_while_everybody_dies(
    client: Client, actions: Any, given: dict[str, Any], ledger: Ledger, tmp_path: Path, wait_until: WaitUntil
) -> None:
    run = client.start(site(actions, "site"), given | {"numbers": [1, 2, 13, 4, 5]}, labels={"team": "x"})
    wait_until(lambda: len(ledger.executions()) >= 5, SECONDS, what="five children to work")
    children = children_of(client, run)
    assert len(children) == 5
    records = [child.record() for child in children]
    assert {(r.parent_run_id, r.root_run_id, r.depth, r.labels["team"]) for r in records} == {(run.id, run.id, 1, "x")}
    kill_hard(coordinator_pid(client, run, wait_until))
    kill_hard(coordinator_pid(client, children[0], wait_until))
    wait_until(lambda: len(ledger.executions()) >= 6, SECONDS, what="the child to go on")
    kill_hard(service_pid("directory"))
    (tmp_path / "gate").touch()
    assert run.result(SECONDS) == {"all": [1, 4, "ValueError", 16, 25]}
    rows = check_history(client, run, wait_until)
    assert [len(of_type(rows, f"subworkflow.{what}")) for what in ("requested", "started", "completed", "failed")] == [5, 5, 4, 1]
    assert {child.id for child in children} == {row["child_run_id"] for row in of_type(rows, "subworkflow.requested")}
    assert len(children_of(client, run)) == 5
    for child in children:
        check_history(client, child, wait_until, flushed=True)


def test_a_cancel_reaches_the_children_and_waits_for_them(
    client: Client, actions: Any, given: dict[str, Any], ledger: Ledger, wait_until: WaitUntil
) -> None:
    run = client.start(site(actions, "cancelled-site"), given | {"numbers": [1, 2]})
    wait_until(lambda: len(ledger.executions()) >= 2, SECONDS, what="the children to work")
    run.cancel("enough")
    record = run.wait(SECONDS)
    assert record is not None
    assert record.status == "cancelled"
    children = children_of(client, run)
    assert [str(child.record().status) for child in children] == ["cancelled"] * 2
    ends = [child.record().ended_us for child in children]
    assert all(end is not None and end <= (record.ended_us or 0) for end in ends), "R11: the parent ends last"
    assert of_type(rows_of(children[0]), "workflow.cancel_requested")[0]["reason"] == "enough"
    check_history(client, run, wait_until)


def test_a_child_that_fails_fails_its_parent_which_recurs_no_deeper_than_it_may(client: Client, wait_until: WaitUntil) -> None:
    flow = Workflow("countdown", output={"n": "state.n"}, max_depth=2)
    flow.compute("begin", output={"state.n": "input.n"})
    flow.subworkflow("again", flow, input={"n": "input.n - 1"}, output={"state.n": "result.n + 10"})
    flow.transition("begin", "again", when="input.n > 0")
    deep = client.start(flow, {"n": 2})
    assert deep.result(SECONDS) == {"n": 20}
    assert [record.depth for record in client.runs(root_run_id=deep.id)][::-1] == [0, 1, 2]
    run = client.start(flow, {"n": 3})
    with pytest.raises(RunFailedError, match="DepthLimitExceeded") as caught:
        run.result(SECONDS)
    assert caught.value.error is not None
    assert caught.value.error["node_id"] == "again"
    check_history(client, run, wait_until)


def test_a_childs_gate_is_answered_and_its_parent_goes_on(client: Client, wait_until: WaitUntil) -> None:
    asking = Workflow("asking", output={"said": "state.said"})
    asking.gate("sure", bool, output={"state.said": "result"})
    flow = Workflow("delegating", output={"said": "state.said"})
    flow.subworkflow("ask", asking, output={"state.said": "result.said"})
    run = client.start(flow, {})
    waiting(run, wait_until)
    (child,) = wait_until(lambda: children_of(client, run), SECONDS, what="the child")
    waiting(child, wait_until)
    snapshot = run.status()
    assert snapshot is not None
    assert [(wait.kind, wait.name) for wait in snapshot.waiting] == [("child", child.id)]
    assert child.answer("sure", answer=True)["accepted"]
    assert run.result(SECONDS) == {"said": True}
    check_history(client, run, wait_until)
