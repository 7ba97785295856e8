"""Gates, signals, timers and child runs: how they begin, what ends them, and what withdraws them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core import CoreRun
from wonder_ray.definitions.models import (
    ActionNode,
    ComputeNode,
    Escalation,
    GateNode,
    Join,
    Merge,
    Retry,
    SignalNode,
    SubworkflowNode,
    TerminateNode,
    TimerNode,
    Transition,
    WorkflowDefinition,
)
from wonder_ray.errors import ActionError, CommandRefusedError
from wonder_ray.planning import facts
from wonder_ray.state import ErrorRecord


def flow(*nodes: Any, transitions: tuple[Transition, ...] = (), **more: Any) -> WorkflowDefinition:
    return WorkflowDefinition(name="w", nodes=nodes, transitions=transitions, **more)


def edge(source: str, target: str, **more: Any) -> Transition:
    return Transition(source=source, target=target, **more)


def act(node: str, **more: Any) -> ActionNode:
    return ActionNode(id=node, action="m:f", **more)


def broken() -> None:
    raise ActionError("Broken", "not today", retryable=False)


def started(definition: WorkflowDefinition, value: Any = None, **how: Any) -> CoreRun:
    run = CoreRun(definition, **how)
    run.start(value)
    return run


# --- gates -----------------------------------------------------------------------------------------------------------

AGE = GateNode(id="age", answer={"type": "integer", "minimum": 18}, output={"output.age": "result"}, input={"q": "'How old?'"})


def test_a_gate_asks_again_until_the_answer_fits() -> None:
    run = started(flow(AGE), crash_every_turn=True)
    assert run.status == "waiting"
    for answer, accepted in ((13, False), ("x", False), (19, True)):
        reply = run.say(facts.AnswerGate(gate="age", answer=answer))
        assert reply["accepted"] is accepted
        assert bool(reply["problems"]) is not accepted
    assert (run.status, run.output) == ("completed", {"age": 19})
    assert len(run.events("gate.opened")) == 3
    assert len(run.events("gate.answer_refused")) == 2


def test_an_early_answer_is_kept_and_a_bad_one_refused_when_the_gate_opens() -> None:
    run = started(flow(act("a"), AGE, transitions=(edge("a", "age"),)))
    for answer in (1, 20):
        assert run.say(facts.AnswerGate(gate="age", answer=answer))["kept"]
    run.crash()
    run.run_on()
    assert (run.status, run.output) == ("completed", {"age": 20})
    assert len(run.events("gate.opened")) == 2


def test_an_answer_to_a_gate_that_can_open_no_more_is_refused() -> None:
    definition = flow(
        GateNode(id="g"),
        act("a"),
        act("b"),
        ComputeNode(id="end"),
        transitions=(
            edge("a", "g", when="input.asks"),
            edge("a", "b", priority=1),
            edge("b", "a", when="input.again", max_iterations=1),
            edge("g", "end"),
        ),
        start=("a",),
    )
    run = started(definition, {"asks": False, "again": True})
    run.finish("a")
    assert run.say(facts.AnswerGate(gate="g", answer=1))["kept"], "b may lead back to a, and a to the gate"
    run = started(definition, {"asks": True, "again": True})
    run.finish("a")
    run.say(facts.AnswerGate(gate="g", answer=1, key="yes"))
    assert run.status == "completed"


def test_an_answer_to_a_gate_that_was_withdrawn_is_refused() -> None:
    definition = flow(
        act("s"),
        GateNode(id="g"),
        act("a"),
        act("end"),
        transitions=(edge("s", "g", group="x"), edge("s", "a"), edge("a", "end", cancel=("g",))),
        start=("s",),
    )
    run = started(definition, crash_every_turn=True)
    run.finish("s")
    assert run.events("gate.opened")
    run.finish("a")
    with pytest.raises(CommandRefusedError, match="the gate 'g' is not open, and can open no more"):
        run.say(facts.AnswerGate(gate="g", answer=1))
    assert not run.events("gate.answer_received")
    run.run_on()
    assert run.status == "completed"


def test_an_answer_is_kept_while_a_group_that_is_held_may_still_lead_to_the_gate() -> None:
    definition = flow(
        act("s"),
        act("a"),
        GateNode(id="g", output={"output.said": "result"}),
        transitions=(edge("s", "a", group="x"), edge("s", "g", on="group_failed(x)")),
        start=("s",),
        output={"said": "output.said"},
    )
    run = started(definition, actions={"a": broken})
    run.finish("s")
    assert run.say(facts.AnswerGate(gate="g", answer=1))["kept"]
    run.run_on()
    assert (run.status, run.output) == ("completed", {"said": 1})


def test_gates_of_a_fan_out_are_named_by_their_tokens() -> None:
    definition = flow(
        ComputeNode(id="a"),
        GateNode(id="g", output={"output.last": "result"}),
        transitions=(edge("a", "g", foreach="['x', 'y']"),),
    )
    run = started(definition)
    with pytest.raises(CommandRefusedError, match="2 gates are open at node 'g'"):
        run.say(facts.AnswerGate(gate="g", answer=1))
    first, second = [token.id for token in run.state.tokens.values() if token.node_id == "g"]
    run.say(facts.AnswerGate(gate=second, answer=2))
    with pytest.raises(CommandRefusedError, match="is no open gate"):
        run.say(facts.AnswerGate(gate=second, answer=2))
    run.say(facts.AnswerGate(gate=first, answer=1))
    assert run.status == "completed"


def test_a_gate_is_escalated_and_times_out() -> None:
    gate = GateNode(
        id="g",
        assignee="input.owner",
        timeout_s=100,
        escalate=(Escalation(after_s=20, assignee="'boss'"), Escalation(after_s=10, assignee="'lead'")),
    )
    run = started(flow(gate, act("late"), transitions=(edge("g", "late", on="timed_out"),)), {"owner": "ann"})
    run.run_on()
    assert [event["assignee"] for event in run.events("gate.escalated")] == ["lead", "boss"]
    assert run.events("gate.opened")[0]["assignee"] == "ann"
    assert run.completed == {"late": 1}
    assert run.clock.now_us() - (run.state.run.started_us or 0) == 100_000_000


def test_an_unknown_gate_is_refused_and_nothing_is_recorded() -> None:
    run = started(flow(AGE))
    before = len(run.rows)
    with pytest.raises(CommandRefusedError, match="there is no gate 'agee'; its gates are 'age'"):
        run.say(facts.AnswerGate(gate="agee", answer=1))
    assert len(run.rows) == before


# --- signals ---------------------------------------------------------------------------------------------------------


def waiting_flow(**more: Any) -> WorkflowDefinition:
    return flow(act("a"), SignalNode(id="go", output={"output.got": "result"}, **more), transitions=(edge("a", "go"),))


@pytest.mark.parametrize("retained", [True, False])
def test_an_early_signal_is_kept_or_lost(retained: bool) -> None:
    run = started(waiting_flow(retained=retained))
    reply = run.say(facts.SignalRun(name="go", payload=1))
    assert reply["kept"] is retained
    run.run_on()
    assert run.status == ("completed" if retained else "waiting")
    if not retained:
        assert run.say(facts.SignalRun(name="go", payload=2))["delivered"]
    assert run.output == {"got": 1 if retained else 2}


def test_signals_are_consumed_in_the_order_of_arrival_and_waiting() -> None:
    definition = flow(
        ComputeNode(id="a"),
        SignalNode(id="go", output={"state.got": "result"}),
        ComputeNode(id="end", output={"output.all": "state.all"}),
        transitions=(
            edge("a", "go", spawn_count=3, group="g"),
            edge("go", "end", join=Join(over="g", merge=(Merge(target="state.all", source="state.got"),))),
        ),
    )
    run = started(definition)
    for payload in (1, 2, 3):
        run.say(facts.SignalRun(name="go", payload=payload))
        run.crash() if payload < 3 else None
    assert run.output == {"all": [1, 2, 3]}


def test_a_signal_nobody_knows_and_a_payload_that_breaks_the_schema_are_refused() -> None:
    run = started(waiting_flow(payload={"type": "object"}))
    with pytest.raises(CommandRefusedError, match="no node waits for a signal 'gone'; its signals are 'go'"):
        run.say(facts.SignalRun(name="gone"))
    with pytest.raises(CommandRefusedError, match="breaks the schema"):
        run.say(facts.SignalRun(name="go", payload=1))


# --- timers and races ------------------------------------------------------------------------------------------------


def test_a_timer_goes_off_when_its_time_has_come_whatever_dies() -> None:
    run = started(flow(TimerNode(id="t", duration_s="input.s"), act("b"), transitions=(edge("t", "b"),)), {"s": 3600})
    assert run.status == "waiting"
    run.crash()
    run.pass_time(3599)
    assert run.status == "waiting"
    run.pass_time(1)
    assert run.started == ["b"]


def test_a_timer_until_a_time() -> None:
    run = started(flow(TimerNode(id="t", until="input.at")), {"at": "2033-05-18T03:33:20Z"})
    assert run.state.next_due_us() == 2_000_000_000_000_000
    late = started(flow(TimerNode(id="t", until="input.at")), {"at": "1999-01-01T00:00:00+00:00"})
    assert late.status == "completed"
    bad = started(flow(TimerNode(id="t", until="input.at")), {"at": "2033-05-18T03:33:20"})
    assert bad.error is not None
    assert "a time with its zone" in bad.error.message


RACE = flow(
    act("a"),
    GateNode(id="gate"),
    SignalNode(id="sig"),
    TimerNode(id="timer", duration_s=60),
    *(act(node) for node in ("x", "y", "z")),
    transitions=(
        *(edge("a", node, race="first") for node in ("gate", "sig", "timer")),
        *(edge(node, then) for node, then in (("gate", "x"), ("sig", "y"), ("timer", "z"))),
    ),
)


@pytest.mark.parametrize(("winner", "then"), [("gate", "x"), ("sig", "y"), ("timer", "z")])
def test_the_first_of_a_race_withdraws_the_others(winner: str, then: str) -> None:
    run = started(RACE, crash_every_turn=True)
    run.finish("a")
    if winner == "gate":
        run.say(facts.AnswerGate(gate="gate"))
    elif winner == "sig":
        run.say(facts.SignalRun(name="sig"))
    run.run_on()
    assert run.completed == {"a": 1, winner: 1, then: 1}
    assert len(run.events("token.cancelled")) == 2


# --- child runs ------------------------------------------------------------------------------------------------------


def parent(**more: Any) -> WorkflowDefinition:
    node = SubworkflowNode(id="c", workflow="child", input={"n": "input.n"}, output={"output.got": "result.n"}, **more)
    return flow(node, act("after"), transitions=(edge("c", "after", on="failed[Bad]"),))


def test_a_child_gets_its_input_and_gives_its_output() -> None:
    run = started(parent(), {"n": 4}, crash_every_turn=True)
    (child,) = run.children.values()
    assert (child.workflow, child.version, child.input) == ("child", None, {"n": 4})
    run.turn(facts.ChildStarted(child_id=child.id, version="v7"))
    run.turn(facts.ChildStarted(child_id=child.id, version="v7"))
    run.run_on()
    assert (run.status, run.output) == ("completed", {"got": 4})
    assert len(run.events("subworkflow.started")) == 1


def test_a_child_that_fails_is_retried_then_routed() -> None:
    run = CoreRun(parent(retry=(Retry(max_attempts=2),)))
    ids = []

    def fail(child: Any) -> facts.ChildEnded:
        ids.append(child.id)
        return facts.ChildEnded(child_id=child.id, status="failed", error=ErrorRecord("Bad", "no", kind="child"))

    run.child = fail
    run.start({"n": 1})
    run.run_on()
    assert run.completed == {"after": 1}
    assert len(set(ids)) == 2
    errors = [event["error"] for event in run.events("subworkflow.failed")]
    assert [(error["type"], error["node_id"]) for error in errors] == [("Bad", "c")] * 2, "it failed at a node of this run"


def test_a_cancelled_run_ends_after_its_children() -> None:
    run = started(parent(), {"n": 1})
    run.say(facts.CancelRun(reason="enough"))
    assert run.status == "cancelling"
    assert not run.state.index.live
    (child,) = run.children.values()
    assert child.cancelled == "enough"
    run.crash()
    run.run_on()
    assert run.status == "cancelled"
    assert run.rows[-1]["event_type"] == "workflow.cancelled"


def test_a_child_that_takes_too_long_is_told_to_end_and_the_run_waits_for_that() -> None:
    run = started(parent(timeout_s=10), {"n": 1})
    run.pass_time(10)
    assert run.status == "cancelling"
    run.run_on()
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.type == "Timeout"


def test_recursion_ends_at_the_limit() -> None:
    run = CoreRun(parent().model_copy(update={"max_depth": 2}))
    run.turn(facts.StartRun(input={"n": 1}, workflow_name="w", workflow_version="v", depth=2))
    assert run.error is not None
    assert run.error.type == "DepthLimitExceeded"


# --- terminate, pause, updates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_terminate_node_ends_the_run_and_cancels_the_rest(status: Any) -> None:
    definition = flow(
        act("a"),
        act("b"),
        TerminateNode(id="end", status=status, error_type="Stopped", message="enough", output={"output.x": "1"}),
        transitions=(edge("a", "end"),),
        start=("a", "b"),
    )
    run = started(definition)
    run.finish("a")
    assert run.status == status
    assert run.flying == []
    if status == "completed":
        assert run.output == {"x": 1}
    else:
        assert run.error is not None
        assert (run.error.type, run.error.message) == ("Stopped", "enough")


def test_a_paused_run_starts_nothing_until_it_goes_on() -> None:
    definition = flow(act("a"), TimerNode(id="t", duration_s=5), act("b"), transitions=(edge("a", "t"), edge("t", "b")))
    run = started(definition)
    run.say(facts.PauseRun(reason="lunch"))
    run.finish("a")
    assert (run.status, run.state.next_due_us()) == ("paused", None)
    run.crash()
    assert run.say(facts.PauseRun())["ok"]
    run.clock.advance(seconds=60)
    run.say(facts.ContinueRun())
    assert run.status == "waiting"
    before = len(run.rows)
    assert run.say(facts.ContinueRun())["ok"], "it goes on already"
    assert len(run.rows) == before
    run.run_on()
    assert run.completed == {"a": 1, "t": 1, "b": 1}


def test_an_update_changes_the_state_if_that_keeps_to_the_schema() -> None:
    schema = {"properties": {"limit": {"type": "integer"}}}
    run = started(flow(GateNode(id="g", output={"output.l": "state.limit"}), state=schema))
    for changes, why in (
        ({"state.limit": "x"}, "would break the workflow's schema"),
        ({"output.limit": 1}, "no part of the state"),
        ({"limit": 1}, "must start with state"),
        ({}, "changes nothing"),
    ):
        with pytest.raises(CommandRefusedError, match=why):
            run.say(facts.UpdateState(changes=changes))
    run.say(facts.UpdateState(changes={"state.limit": 3, "state.deep.x": [1]}))
    run.say(facts.AnswerGate(gate="g"))
    assert run.output == {"l": 3}
    with pytest.raises(CommandRefusedError, match="it has ended"):
        run.say(facts.UpdateState(changes={"state.limit": 3}))


def test_recursion_is_of_the_runs_own_version_and_other_children_are_of_their_latest() -> None:
    nodes = (SubworkflowNode(id="again", workflow="test"), SubworkflowNode(id="other", workflow="x"))
    run = started(flow(*nodes))
    assert {child.workflow: child.version for child in run.children.values()} == {"test": "v", "x": None}
