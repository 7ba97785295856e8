"""Corners of the decision layer: what is asked for too late, twice, or of nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core import RUN_ID, CoreRun
from tests.planning.test_compensation import fork
from tests.planning.test_control import open_flow
from tests.planning.test_failing_expressions import failed_with
from tests.planning.test_waits import act, edge, flow, started
from wonder_ray.coordinator.observe import events_of_fact
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.models import (
    ComputeNode,
    GateNode,
    Join,
    Merge,
    SignalNode,
    SubworkflowNode,
    Undo,
    WorkflowDefinition,
)
from wonder_ray.errors import CommandRefusedError
from wonder_ray.fold import new_state
from wonder_ray.planning import facts
from wonder_ray.planning.queries import evaluate_query
from wonder_ray.planning.router import Router
from wonder_ray.state import ErrorRecord

# --- too late, twice, or of nothing ----------------------------------------------------------------------------------


def test_news_of_children_that_are_unknown_or_known_already_has_no_effect() -> None:
    run = started(flow(SubworkflowNode(id="c", workflow="w"), GateNode(id="g")))
    before = len(run.rows)
    run.turn(facts.ChildEnded(child_id="run_unknown", status="completed"))
    run.turn(facts.ChildStarted(child_id="run_unknown"))
    assert len(run.rows) == before
    (child,) = run.children
    run.turn(facts.ChildEnded(child_id=child, status="completed", output=1))
    run.turn(facts.ChildEnded(child_id=child, status="completed", output=2))
    assert len(run.events("subworkflow.completed")) == 1


def test_a_child_that_ends_after_its_token_was_withdrawn_changes_only_itself() -> None:
    definition = flow(
        SubworkflowNode(id="c", workflow="w"),
        SubworkflowNode(id="d", workflow="w"),
        act("a"),
        act("end"),
        transitions=(edge("a", "end", cancel=("c", "d")),),
        start=("c", "d", "a"),
    )
    run = started(definition)
    first, second = run.children
    run.finish("a")
    run.finish("end")
    assert run.status == "waiting", "the run ends after its children"
    run.turn(facts.ChildEnded(child_id=first, status="completed", output=1))
    run.turn(facts.ChildEnded(child_id=second, status="failed"))
    assert run.status == "completed"
    assert run.events("subworkflow.failed")[0]["error"]["type"] == "ChildFailed"
    assert run.rows[-1]["event_type"] == "workflow.completed"


def test_groups_are_named_by_id_where_several_bear_a_name() -> None:
    definition = flow(
        ComputeNode(id="s"),
        ComputeNode(id="t"),
        act("a"),
        act("j"),
        transitions=(
            edge("s", "t", spawn_count=2, group="outer"),
            edge("t", "a", foreach="[1]", group="g", open=True),
            edge("a", "j", join=Join(over="g")),
        ),
    )
    run = started(definition)
    with pytest.raises(CommandRefusedError, match="2 groups 'g' are open; name one by its id"):
        run.say(facts.CompleteGroup(group="g"))
    first, second = [group.id for group in run.state.groups.values() if group.name == "g"]
    run.say(facts.AddMembers(group=first, items=[2]))
    assert len(run.of("a")) == 3
    run.say(facts.CompleteGroup(group=first))
    with pytest.raises(CommandRefusedError, match=r"no group '\w+' is open; open now: g, outer"):
        run.say(facts.CompleteGroup(group=first))
    with pytest.raises(CommandRefusedError, match="give at least one item"):
        run.say(facts.AddMembers(group="g", items=[]))
    with pytest.raises(CommandRefusedError, match="'outer' is not open to members"):
        run.say(facts.SealGroup(group="outer"))
    run.say(facts.SealGroup(group=second))
    run.run_on()
    assert run.status == "completed"


def test_members_are_added_to_a_split_by_number() -> None:
    definition = flow(
        ComputeNode(id="s"), act("a", input={"i": "index"}), transitions=(edge("s", "a", spawn_count=1, group="g", open=True),)
    )
    run = CoreRun(definition, {"a": lambda i: i})
    run.start()
    run.say(facts.AddMembers(group="g", items=[None, None]))
    run.say(facts.CompleteGroup(group="g"))
    assert run.status == "completed", "a group that nothing joins ends with its completion"
    assert [row.get("token_id") for row in run.events("token.cancelled")]


def test_a_transition_closes_a_group_and_withdraws_itself_with_another() -> None:
    definition = flow(
        act("s"),
        act("a"),
        act("stop"),
        act("never"),
        act("j"),
        transitions=(
            edge("s", "a", foreach="[1, 2]", group="g", open=True),
            edge("s", "stop", close_groups=("g",)),
            edge("a", "never", cancel_groups=("g",)),
            edge("never", "j", join=Join(over="g")),
        ),
    )
    run = started(definition)
    run.finish("s")
    assert len(run.events("group.sealed")) == 0, "it is not open yet when the transition fires"
    run.finish("a")
    run.run_on()
    assert run.completed == {"s": 1, "a": 1, "stop": 1}
    assert run.status == "completed"


def test_closing_and_completing_twice_does_nothing_twice() -> None:
    definition = flow(
        act("s"),
        act("a"),
        act("b"),
        act("end"),
        act("j"),
        transitions=(
            edge("s", "a", foreach="[1]", group="g", open=True),
            edge("s", "b"),
            edge("b", "end", close_groups=("g",)),
            edge("b", "end", complete_groups=("g",)),
            edge("b", "end", complete_groups=("g",), close_groups=("g",)),
            edge("a", "j", join=Join(over="g")),
        ),
    )
    run = started(definition)
    run.finish("s")
    run.finish("b")
    assert len(run.events("group.sealed")) == 1
    assert len(run.events("group.completed_early")) == 2
    run.run_on()
    assert run.completed == {"s": 1, "b": 1, "end": 3, "j": 1}


def test_a_repeated_pause_and_a_cancel_of_an_ended_run_are_answered_with_yes() -> None:
    run = started(flow(GateNode(id="g")))
    run.say(facts.PauseRun())
    before = len(run.rows)
    assert run.say(facts.PauseRun())["ok"]
    assert len(run.rows) == before
    run.say(facts.CancelRun(reason="x"))
    assert run.say(facts.CancelRun(reason="x"))["ok"]
    assert run.status == "cancelled"


def test_a_gate_that_is_yet_to_open_can_be_named_by_its_token() -> None:
    run = started(flow(GateNode(id="g", guard="has(state.go)", output={"output.x": "result"})))
    (token,) = run.state.tokens
    assert run.say(facts.AnswerGate(gate=token, answer=5))["kept"]
    run.say(facts.UpdateState(changes={"state.go": 1}))
    assert run.output == {"x": 5}


def test_a_gate_takes_the_first_fitting_of_the_answers_that_were_kept_for_it() -> None:
    integer = {"type": "integer"}
    run = started(
        flow(
            act("a"),
            *(GateNode(id=node, answer=integer, output={f"output.{node}": "result"}) for node in "gh"),
            SignalNode(id="s"),
            transitions=(edge("a", "g"), edge("a", "h"), edge("h", "s")),
        )
    )
    for gate, value in (("h", 1), ("g", "two"), ("g", 3), ("g", 4)):
        assert run.say(facts.AnswerGate(gate=gate, answer=value))["kept"]
    run.say(facts.SignalRun(name="s", payload=5))
    run.finish("a")
    assert (run.status, run.output) == ("completed", {"g": 3, "h": 1})
    assert [row["problems"] for row in run.events("gate.answer_refused")] == [["'two' is not of type 'integer'"]]
    assert [kept.payload for kept in run.state.kept.values()] == [4], "which nobody has asked for"


def test_an_answer_to_another_gate_stays_kept() -> None:
    run = started(flow(GateNode(id="g"), GateNode(id="h", guard="has(state.go)")))
    assert run.say(facts.AnswerGate(gate="h", answer=1))["kept"]
    run.say(facts.AnswerGate(gate="g", answer=1))
    assert run.status == "waiting"
    assert len(run.state.kept) == 1


def test_a_paused_run_ends_attempts_and_itself_in_time() -> None:
    run = started(flow(act("a", timeout_s=5), GateNode(id="g", timeout_s=1), timeout_s=60))
    run.say(facts.PauseRun())
    assert run.state.next_due_us() == (run.state.run.started_us or 0) + 5_000_000
    run.pass_time(2)
    assert run.status == "paused"
    run.clock.advance(seconds=58)
    run.turn(facts.Alarm())
    assert run.status in {"failed", "timed_out"}


def test_undos_have_their_own_time_after_the_run_has_had_its() -> None:
    definition = flow(act("a", undo=Undo(action="m:u", timeout_s=5)), act("b"), transitions=(edge("a", "b"),), timeout_s=10)
    run = started(definition)
    run.finish("a")
    run.pass_time(10)
    assert run.status == "compensating"
    assert run.state.next_due_us() == run.clock.now_us() + 5_000_000
    run.pass_time(5)
    assert (run.status, len(run.events("compensation.failed"))) == ("timed_out", 1)


def test_a_child_that_was_told_to_end_is_not_told_twice() -> None:
    definition = flow(
        SubworkflowNode(id="c", workflow="w", timeout_s=5),
        GateNode(id="g"),
        act("x"),
        transitions=(edge("c", "x", on="timed_out"),),
    )
    run = started(definition)
    run.pass_time(5)
    assert len(run.events("subworkflow.cancel_requested")) == 1
    run.say(facts.CancelRun(reason="stop"))
    assert len(run.events("subworkflow.cancel_requested")) == 1
    run.run_on()
    assert run.status == "cancelled"


def test_a_signal_wait_times_out() -> None:
    run = started(flow(SignalNode(id="s", timeout_s=3), act("x"), transitions=(edge("s", "x", on="timed_out"),)))
    run.pass_time(3)
    run.run_on()
    assert run.completed == {"x": 1}


@pytest.mark.parametrize("merge", ["append", "concat"])
def test_a_join_over_incoming_that_proceeds_may_fail_to_merge(merge: Any) -> None:
    join = Join(
        over="incoming", timeout_s=1, on_timeout="proceed_with_available", merge=(Merge(target="state.x", strategy=merge),)
    )
    definition = flow(
        *(act(node) for node in ("s", "a", "b", "j")),
        transitions=(edge("s", "a"), edge("s", "b"), edge("a", "j", join=join), edge("b", "j", join=join)),
    )
    run = CoreRun(definition, {"a": lambda: 1})
    run.start()
    run.finish("s")
    run.finish("a")
    run.pass_time(1)
    if merge == "concat":
        failed_with(run, "ExpressionError", "join over incoming")
    else:
        assert len(run.of("j")) == 1


def test_a_large_state_is_restored_in_parts() -> None:
    definition = flow(
        ComputeNode(id="s", output={"state.n": "1", "output.m": "2"}),
        act("a"),
        GateNode(id="g"),
        SignalNode(id="sig"),
        transitions=(edge("s", "a", foreach="input", group="x"), edge("s", "g"), edge("g", "sig")),
    )
    source = started(definition, list(range(1200)))
    source.say(facts.SignalRun(name="sig", payload=1))
    source.say(facts.AnswerGate(gate="g"))
    run = fork(source, len(source.rows) - 4)
    assert len(run.events("run.restored")) > 4
    assert len(run.flying) == 1200
    assert run.state.view("")["state"] == {"n": 1}
    assert fork(source, 2).status in {"running", "waiting"}


def test_a_fork_keeps_undos_and_what_was_kept() -> None:
    definition = flow(
        act("a", undo=Undo(action="m:u")), GateNode(id="g"), SignalNode(id="sig"), transitions=(edge("a", "g"), edge("g", "sig"))
    )
    source = started(definition)
    source.finish("a")
    source.say(facts.SignalRun(name="sig", payload=1))
    run = fork(source, len(source.rows), crash_every_turn=True)
    assert (len(run.state.kept), len(run.state.undos)) == (1, 1)
    run.say(facts.CancelRun(reason="x", compensate=True))
    run.run_on()
    assert len(run.events("compensation.completed")) == 1


def test_facts_that_nobody_knows_are_a_mistake_of_the_program() -> None:
    graph = compile_graph(flow(act("a")))

    class Odd(facts.Fact, frozen=True):
        pass

    class OddCommand(facts.CommandFact, frozen=True):
        pass

    with pytest.raises(TypeError, match="no planner for Odd"):
        Router(graph).decide(new_state(RUN_ID), Odd(), now_us=1)
    run = started(flow(GateNode(id="g")))
    with pytest.raises(TypeError, match="no event records OddCommand"):
        list(events_of_fact(run.state, run.graph, OddCommand()) or ())


def test_a_command_before_the_beginning_is_refused() -> None:
    run = CoreRun(flow(act("a")))
    with pytest.raises(CommandRefusedError, match="it has not begun"):
        run.say(facts.PauseRun())


def test_what_is_no_json_is_refused_and_nothing_is_recorded() -> None:
    run = started(flow(SignalNode(id="s"), GateNode(id="g")))
    before = len(run.rows)
    for command in (
        facts.SignalRun(name="s", payload=float("nan")),
        facts.AnswerGate(gate="g", answer={1, 2}),
        facts.UpdateState(changes={"state.x": object()}),
    ):
        with pytest.raises(CommandRefusedError, match=f"run {RUN_ID}: {type(command).__name__} was refused: .*JSON"):
            run.say(command)
    assert len(run.rows) == before


def test_a_gate_whose_schema_cannot_judge_refuses_every_answer_and_says_why() -> None:
    run = started(flow(GateNode(id="g", answer={"$ref": "#"})))
    reply = run.say(facts.AnswerGate(gate="g", answer=1))
    assert (reply["accepted"], len(reply["problems"])) == (False, 1)
    assert "its schema" in reply["problems"][0]


def test_a_query_reads_the_state() -> None:
    run = started(flow(ComputeNode(id="a", output={"state.x": "input + 1"}), GateNode(id="g"), start=("a", "g")), 4)
    assert evaluate_query(run.state, "state.x * 2") == 10


def test_an_open_group_of_nothing_waits_and_its_completion_joins_nothing() -> None:
    run = CoreRun(open_flow())
    run.start([])
    run.say(facts.CompleteGroup(group="g"))
    run.run_on()
    assert run.output == {"all": []}


def test_an_error_of_a_child_without_details_is_named_after_its_end() -> None:
    run = started(flow(SubworkflowNode(id="c", workflow="w")))
    (child,) = run.children
    run.turn(facts.ChildEnded(child_id=child, status="timed_out", error=ErrorRecord("RunTimeout", "too long", kind="child")))
    failed_with(run, "RunTimeout", "too long")


def definition_of_locks() -> WorkflowDefinition:
    return flow(
        ComputeNode(id="s"),
        act("a", mutex=("m",)),
        act("b", mutex=("m",)),
        act("j", mutex=("m",)),
        act("after"),
        transitions=(
            edge("s", "a"),
            edge("a", "b", group="g", spawn_count=2),
            edge("b", "j", join=Join(over="g")),
            edge("j", "after"),
        ),
    )


@pytest.mark.parametrize("crash", [False, True])
def test_a_section_holds_its_mutex_through_a_split_and_its_join(crash: bool) -> None:
    run = CoreRun(definition_of_locks(), crash_every_turn=crash)
    run.start()
    run.finish("a")
    assert len(run.of("b")) == 2, "a lineage that holds it shares it"
    run.finish("b")
    run.finish("b")
    assert len(run.of("j")) == 1
    assert list(run.state.index.locks.holders["mutex:m"]) == [run.of("j")[0].id]
    run.run_on()
    assert run.status == "completed"
    assert len(run.events("mutex.acquired")) == 1
