"""Resuming and asking again (L1 and L3) on the core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cases.l_definitions import INVALID, l1, l3, l3_by_schema
from tests.cases.words import action
from tests.core import CoreRun
from tests.patterns.harness import Course, Event, courses
from tests.planning.test_compensation import fork
from wonder_ray.definitions.models import ActionNode
from wonder_ray.planning import facts

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition


# --- L1 --------------------------------------------------------------------------------------------------------------


def failed(**how: Any) -> CoreRun:
    """L1 up to its failure."""
    definition = l1()
    actions = {node.id: action(node.action) for node in definition.nodes if isinstance(node, ActionNode)}
    return CoreRun(definition, actions, **how).run()


def restarted(run: CoreRun, changes: dict[str, Any] | None = None, **how: Any) -> CoreRun:
    """The run that goes on from where a failed one was about to execute `two` for the last time."""
    return fork(run, run.positions("task.dispatched", "two")[-1], changes, **how).run_on()


def calls(*runs: CoreRun) -> dict[str, int]:
    """How often each action was called and answered, over several runs."""
    return {node: sum(run.completed[node] + run.failed_attempts[node] for run in runs) for node in ("one", "two")}


@pytest.mark.parametrize("how", [{}, {"crash_every_turn": True}, *({"crash_at": turn} for turn in range(1, 5))], ids=str)
def test_l1_a_branch_that_has_finished_is_not_repeated(how: dict[str, Any]) -> None:
    first = failed(**how)
    assert first.status == "failed"
    assert calls(first) == {"one": 1, "two": 2}
    assert first.state.view("")["state"] == {"value": 3}
    second = restarted(first, **how)
    assert second.status == "failed"
    assert calls(first, second) == {"one": 1, "two": 4}
    assert second.state.view("")["state"] == {"value": 3}
    third = restarted(second, {"state.mended": True}, **how)
    assert (third.status, third.output) == ("completed", {"value": 6})
    assert calls(first, second, third) == {"one": 1, "two": 5}


# --- L3 --------------------------------------------------------------------------------------------------------------


def asked(times: int) -> Any:
    """Whether the gate asks for the given time."""
    return lambda run: len(run.events("gate.opened")) == times and run.live == [("age", "waiting_for_gate")]


def check(run: Course) -> None:
    """Three openings, and the answer that held."""
    assert (run.status, run.output) == ("completed", {"age": 19})
    assert len(run.events("gate.opened")) == 3


@pytest.mark.parametrize("wrong", [15, "fifteen", None, 15.5])
@pytest.mark.parametrize("definition", [l3(), l3_by_schema()], ids=lambda definition: definition.name)
def test_l3_a_gate_asks_again_until_the_answer_holds(definition: WorkflowDefinition, wrong: Any) -> None:
    answers = [
        Event(f"answer {i}", facts.AnswerGate(gate="age", answer=answer), when=asked(i))
        for i, answer in enumerate([13, wrong, 19], 1)
    ]
    for run in courses(definition, events=answers):
        check(run)


def test_l3_every_answer_may_find_a_new_coordinator() -> None:
    for definition in (l3(), l3_by_schema()):
        run = CoreRun(definition)
        run.start()
        for answer in (13, 15, 19):
            run.crash()
            assert run.status == "waiting"
            run.say(facts.AnswerGate(gate="age", answer=answer))
        run.check()
        assert (run.status, run.output) == ("completed", {"age": 19})
        assert len(run.events("gate.opened")) == 3


def test_l3_who_is_asked_again_is_told_why() -> None:
    run = CoreRun(l3())
    run.start()
    shown = [run.events("gate.opened")[-1]["shown"]]
    run.say(facts.AnswerGate(gate="age", answer=13))
    shown.append(run.events("gate.opened")[-1]["shown"])
    assert shown == [{"question": "How old are you?", "said": said} for said in ("", INVALID)]
    by_schema = CoreRun(l3_by_schema())
    by_schema.start()
    (problem,) = by_schema.say(facts.AnswerGate(gate="age", answer=13))["problems"]
    assert "18" in problem
