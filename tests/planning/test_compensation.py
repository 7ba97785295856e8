"""Taking work back, and beginning from the state of another run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core import RUN_ID, CoreRun, every_order
from tests.planning.test_waits import act, edge, flow, started
from wonder_ray.definitions.models import GateNode, SubworkflowNode, Undo, WorkflowDefinition
from wonder_ray.fold import fold
from wonder_ray.planning import facts
from wonder_ray.state import Lineage


def trip(**more: Any) -> WorkflowDefinition:
    booking = {"undo": Undo(action="m:cancel", input={"id": "result"})}
    return flow(
        act("flight", **booking),
        act("hotel", **booking),
        act("pay"),
        transitions=(edge("flight", "hotel"), edge("hotel", "pay")),
        **more,
    )


def booked(run: CoreRun) -> list[tuple[str, Any]]:
    return [(row["node_id"], row.get("input")) for row in run.events("task.dispatched") if row["node_id"].startswith("undo:")]


ACTIONS = {"flight": lambda: "F1", "hotel": lambda: "H1", "pay": lambda: 1 / 0}


@pytest.mark.parametrize("crash", [False, True])
def test_a_failed_run_takes_its_work_back_last_first(crash: bool) -> None:
    run = CoreRun(trip(), ACTIONS, crash_every_turn=crash).run()
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.type == "ZeroDivisionError"
    assert [node for node, _ in booked(run)][:1] == ["undo:hotel"]
    assert [row["node_id"] for row in run.events("compensation.completed")] == ["hotel", "flight"]
    assert {given["id"] for _, given in booked(run) if given} == {"F1", "H1"}
    assert run.rows[-1]["event_type"] == "workflow.failed"
    assert not run.state.undos


def test_an_undo_that_fails_is_told_and_the_others_go_on() -> None:
    run = CoreRun(trip(), ACTIONS | {"undo:hotel": lambda id: 1 / 0}).run()  # noqa: A006 - the parameter's name
    assert [row["node_id"] for row in run.events("compensation.failed")] == ["hotel"]
    assert [row["node_id"] for row in run.events("compensation.completed")] == ["flight"]
    assert run.error is not None
    assert run.error.node_id == "pay"


@pytest.mark.parametrize("compensate", [False, True])
def test_a_cancel_compensates_on_request(compensate: bool) -> None:
    run = started(trip())
    run.finish("flight")
    run.say(facts.CancelRun(reason="no", compensate=compensate))
    assert run.status == ("compensating" if compensate else "cancelled")
    run.run_on()
    assert run.status == "cancelled"
    assert [row["node_id"] for row in run.events("compensation.completed")] == (["flight"] if compensate else [])


def test_compensation_waits_for_child_runs() -> None:
    definition = flow(
        act("a", undo=Undo(action="m:u")),
        SubworkflowNode(id="c", workflow="x"),
        act("b"),
        transitions=(edge("a", "c"), edge("a", "b")),
    )
    run = CoreRun(definition, {"b": lambda: 1 / 0})
    run.start()
    run.finish("a")
    run.finish("b")
    assert (run.status, run.flying) == ("cancelling", [])
    run.run_on()
    positions = [row["event_type"] for row in run.rows]
    assert positions.index("subworkflow.failed") < positions.index("compensation.started") < positions.index("workflow.failed")


def test_work_is_taken_back_in_the_order_in_which_it_was_done() -> None:
    undo = {"undo": Undo(action="m:u")}
    definition = flow(*(act(node, **undo) for node in "abc"), act("end"), transitions=(edge("c", "end"),), start=("a", "b", "c"))
    for script in every_order():
        run = CoreRun(definition, {"end": lambda: 1 / 0}, order=script).run()
        done = [row["node_id"] for row in run.rows if row["event_type"] == "node_completed" and row["node_id"] in "abc"]
        assert [row["node_id"] for row in run.events("compensation.completed")] == done[::-1]


# --- forks -----------------------------------------------------------------------------------------------------------


def fork(source: CoreRun, at: int, changes: dict[str, Any] | None = None, **how: Any) -> CoreRun:
    state = fold(RUN_ID, source.rows, at=at)
    run = CoreRun(source.definition, source.actions, **how)
    lineage = Lineage(run_id=RUN_ID, sequence=state.run.sequence)
    run.turn(
        facts.StartRun(
            input=state.run.input,
            workflow_name="test",
            workflow_version="v",
            fork=facts.Fork(source=lineage, state=state, changes=changes or {}),
        )
    )
    return run


def test_a_fork_goes_on_from_a_point_and_repeats_nothing_that_was_finished() -> None:
    definition = flow(
        act("a", output={"state.a": "result"}),
        act("b", input={"a": "state.a"}, output={"output.b": "result"}),
        transitions=(edge("a", "b"),),
    )
    source = CoreRun(definition, {"a": lambda: 1}).run()
    at = source.position("task.completed", "a")
    again = fork(source, at, crash_every_turn=True).run_on()
    assert (again.status, again.output) == ("completed", {"b": 1})
    assert again.completed == {"b": 1}
    assert again.state.run.forked_from == Lineage(run_id=RUN_ID, sequence=source.position("task.dispatched", "b"))
    changed = fork(source, at, {"state.a": 5}).run_on()
    assert changed.output == {"b": 5}


def test_a_fork_keeps_what_waits_and_dispatches_anew_what_was_under_way() -> None:
    definition = flow(
        act("a"),
        GateNode(id="g"),
        SubworkflowNode(id="c", workflow="x"),
        act("z"),
        start=("a", "g", "c"),
        transitions=(edge("g", "z"),),
    )
    source = started(definition)
    again = fork(source, len(source.rows))
    assert {token.node_id for token in again.flying} == {"a"}
    assert len(again.children) == 1
    again.say(facts.AnswerGate(gate="g"))
    again.run_on()
    assert again.completed == {"a": 1, "g": 1, "c": 1, "z": 1}


def test_a_fork_takes_over_groups_loops_and_open_rounds() -> None:
    from tests.cases.s_definitions import s6

    case = s6()
    source = CoreRun(case.definition).run(case.input)
    turns = {row["turn"]: row["sequence_number"] for row in source.rows}
    for at in list(turns.values())[:-1]:
        run = fork(source, at).run_on()
        assert run.status == "completed"
