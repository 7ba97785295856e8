"""The examples that wait for people and have children, on Ray: answers through the client, children of pinned versions, undos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.helpers import SECONDS, check_history, of_type
from wonder_ray.errors import RunFailedError
from wonder_ray.examples import agent, approval

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from wonder_ray.client import Client, Run


def asked(client: Client, wait_until: WaitUntil, **changes: Any) -> Run:
    """A purchase whose manager has been asked."""
    run = client.start(approval.flow, approval.Purchase(item="GPU", price=1800, manager="ada").model_copy(update=changes))
    (gate,) = wait_until(run.gates, SECONDS, what="the gate to open")
    assert (gate.node_id, gate.assignee) == ("approve", "ada")
    return run


def test_a_purchase_is_approved_and_delivered(client: Client, wait_until: WaitUntil) -> None:
    run = asked(client, wait_until)
    assert not run.answer("approve", "yes", by="ada")["accepted"]
    assert run.answer("approve", approval.Verdict(approved=True), by="ada", key="one")["accepted"]
    assert run.result(SECONDS) == {"delivery": "GPU delivered", "verdict": {"approved": True, "reason": ""}}
    rows = check_history(client, run, wait_until)
    assert [row["node_id"] for row in of_type(rows, "token.cancelled")] == ["deadline"]


@pytest.mark.parametrize(
    ("verdict", "item", "error", "undone"),
    [(False, "GPU", "Refused", ["reserve"]), (True, "unobtainium", "LookupError", ["order", "reserve"])],
)
def test_a_purchase_that_comes_to_nothing_is_taken_back(
    client: Client, wait_until: WaitUntil, verdict: bool, item: str, error: str, undone: list[str]
) -> None:
    run = asked(client, wait_until, item=item)
    run.answer("approve", {"approved": verdict}, by="ada")
    with pytest.raises(RunFailedError) as caught:
        run.result(SECONDS)
    assert caught.value.error is not None
    assert caught.value.error["type"] == error
    rows = check_history(client, run, wait_until)
    assert [row["node_id"] for row in of_type(rows, "compensation.completed")] == undone


def test_an_agent_has_children_of_the_version_it_was_registered_with(client: Client, wait_until: WaitUntil) -> None:
    run = client.start(agent.flow, agent.Question(topic="first program", wanted="born"))
    assert run.result(SECONDS)["read"] == ["first program", "Ada Lovelace", "Analytical Engine"]
    rows = check_history(client, run, wait_until)
    children = [client.run(row["child_run_id"]).record() for row in of_type(rows, "subworkflow.started")]
    assert len(children) == 3
    assert {child.parent_run_id for child in children} == {run.id}
    assert {child.workflow_version for child in children} == {client.register(agent.lookup)}
