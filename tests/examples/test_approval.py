"""The purchase that has to be approved: its good end, its bad ends, and what is taken back in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.examples.in_process import in_process
from wonder_ray.examples import approval
from wonder_ray.planning import facts

if TYPE_CHECKING:
    from tests.core import CoreRun

GPU = approval.Purchase(item="GPU", price=1800, manager="ada").model_dump()


def asked(value: dict[str, Any] = GPU, **settings: Any) -> CoreRun:
    """A run that waits for its manager."""
    run = in_process(approval.flow, **settings)
    run.start(value)
    run.finish("reserve")
    assert run.status == "waiting"
    return run


def answered(run: CoreRun, **verdict: Any) -> CoreRun:
    run.say(facts.AnswerGate(gate="approve", answer=verdict))
    return run.run_on()


def taken_back(run: CoreRun) -> list[str]:
    return [row["node_id"] for row in run.events("compensation.completed")]


@pytest.mark.parametrize("crash", [False, True])
def test_what_is_approved_is_delivered_and_nothing_is_taken_back(crash: bool) -> None:
    run = answered(asked(crash_every_turn=crash), approved=True)
    assert run.error is None
    assert run.output == {"delivery": "GPU delivered", "verdict": {"approved": True}}
    assert run.state.next_due_us() is None
    assert taken_back(run) == []


def test_what_is_refused_gives_the_budget_back() -> None:
    run = answered(asked(), approved=False, reason="too dear")
    assert run.error is not None
    assert (run.error.type, run.error.message) == ("Refused", "the purchase was not approved")
    assert run.completed["order"] == 0
    assert taken_back(run) == ["reserve"]


def test_the_manager_must_say_yes_or_no() -> None:
    run = asked()
    reply = run.say(facts.AnswerGate(gate="approve", answer="fine with me"))
    assert not reply["accepted"]
    assert run.status == "waiting"


def test_the_next_one_is_asked_in_time_and_at_last_it_is_too_late() -> None:
    run = asked()
    for days, assignees in ((1, ["the director"]), (2, ["the director", "the board"])):
        run.pass_time(days * approval.DAY_S)
        assert [row["assignee"] for row in run.events("gate.escalated")] == assignees
    run.pass_time(4 * approval.DAY_S)
    run.run_on()
    assert run.error is not None
    assert run.error.type == "TooLate"
    assert taken_back(run) == ["reserve"]


def test_a_delivery_that_fails_calls_the_order_off_before_the_money_is_given_back() -> None:
    run = answered(asked(GPU | {"item": "unobtainium"}), approved=True)
    assert run.error is not None
    assert (run.error.type, run.error.node_id) == ("LookupError", "deliver")
    assert taken_back(run) == ["order", "reserve"]
