"""What looks alike, and is told apart: kinds of what is kept, ways to end, branches that are left, runs that have ended."""

from __future__ import annotations

import json
import re

import pytest

from tests.core import RUN_ID, CoreRun
from tests.planning.test_waits import act, edge, flow, started
from wonder_ray.definitions.models import ComputeNode, GateNode, Join, Merge, Retry, SignalNode, SubworkflowNode
from wonder_ray.errors import CommandRefusedError, WonderError
from wonder_ray.planning import facts
from wonder_ray.planning.forking import History
from wonder_ray.state import ErrorRecord


def test_an_early_answer_is_no_signal_of_the_same_name() -> None:
    definition = flow(
        act("a"),
        SignalNode(id="s", signal="go"),
        GateNode(id="go"),
        transitions=(edge("a", "s"), edge("s", "go")),
    )
    run = started(definition)
    assert run.say(facts.AnswerGate(gate="go", answer=1))["kept"]
    run.run_on()
    assert run.status == "waiting", "the signal has not come"
    run.say(facts.SignalRun(name="go"))
    assert run.status == "completed"


def test_an_early_signal_of_another_name_is_not_taken() -> None:
    definition = flow(
        act("a"), SignalNode(id="s"), SignalNode(id="other"), transitions=(edge("a", "s"), edge("s", "other")), output={}
    )
    run = started(definition)
    assert run.say(facts.SignalRun(name="other", payload=2))["kept"]
    run.run_on()
    assert (run.status, len(run.events("signal.consumed"))) == ("waiting", 0)
    run.say(facts.SignalRun(name="s", payload=1))
    assert run.status == "completed"


def test_a_node_that_failed_as_soon_as_it_was_reached_was_begun() -> None:
    definition = flow(
        act("a"),
        ComputeNode(id="c", output={"state.x": "state.nobody"}),
        act("b"),
        transitions=(edge("a", "c"), edge("c", "b", on="failed")),
    )
    run = started(definition)
    run.finish("a")
    run.run_on()
    assert run.status == "completed"
    with pytest.raises(WonderError, match="'c' began and ended within one turn"):
        History(RUN_ID, run.rows).start_of("c")


def test_an_open_group_without_a_member_goes_with_the_branch_that_it_is_in() -> None:
    definition = flow(
        ComputeNode(id="a"),
        act("b"),
        act("c"),
        act("d"),
        act("e"),
        ComputeNode(id="end"),
        transitions=(
            edge("a", "b", spawn_count=2, group="outer"),
            edge("b", "c", spawn_count=0, group="inner", open=True),
            edge("c", "d", join=Join(over="inner")),
            edge("b", "e"),
            edge("e", "end", join=Join(over="outer", strategy="any", remaining="cancel")),
        ),
    )
    run = started(definition, crash_every_turn=True)
    run.finish("b")
    run.finish("b")
    run.finish("e")
    assert run.status == "completed"
    assert len(run.events("group.cancelled")) == 2


def test_expressions_see_whose_run_it_is() -> None:
    seen = {name: f"run.{name}" for name in ("id", "workflow", "version", "started_us")}
    run = started(flow(act("a", input=seen), output={"run": "run.id + ' ' + run.workflow"}))
    (task,) = run.flying
    assert task.input == {"id": RUN_ID, "workflow": "test", "version": "v", "started_us": run.state.run.started_us}
    run.run_on()
    assert run.output == {"run": f"{RUN_ID} test"}


def test_a_run_that_has_ended_says_how() -> None:
    run: CoreRun = started(flow(act("a")))
    run.run_on()
    said = f"run {RUN_ID}: SignalRun was refused: it has ended (completed)"
    with pytest.raises(CommandRefusedError, match=re.escape(said) + "$"):
        run.say(facts.SignalRun(name="x"))


@pytest.mark.parametrize(
    ("fact", "why"),
    [
        (facts.SignalRun(name="no"), "no node waits for a signal 'no'; its signals are 'paid', 'sent'"),
        (facts.AnswerGate(gate="no", answer=1), "there is no gate 'no'; its gates are 'g', 'h'"),
        (facts.AnswerGate(gate="h", answer=1), "2 gates are open at node 'h'; name one by its token: {h0}, {h1}"),
        (facts.CompleteGroup(group="no"), "no group 'no' is open; open now: x, y"),
        (facts.SealGroup(group="y"), "group 'y' is not open to members from outside, or was closed"),
        (facts.CompleteGroup(group="z"), "no group 'z' is open; open now: x, y"),
        (facts.UpdateState(changes={}), "it changes nothing; give at least one target, such as state.limit"),
        (facts.AddMembers(group="x", items=[]), "there is nothing to add; give at least one item"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, facts.Fact) else "",
)
def test_a_refusal_says_what_there_is(fact: facts.CommandFact, why: str) -> None:
    definition = flow(
        ComputeNode(id="a"),
        *(SignalNode(id=name) for name in ("sent", "paid")),
        *(GateNode(id=name) for name in ("h", "g")),
        transitions=(
            edge("a", "sent", spawn_count=1, group="x", open=True),
            edge("a", "paid", spawn_count=1, group="y"),
            edge("a", "h", spawn_count=2),
            edge("a", "g"),
        ),
    )
    run = started(definition)
    gates = [token.id for token in run.state.tokens.values() if token.node_id == "h"]
    said = why.format(h0=gates[0], h1=gates[1]) if "{h0}" in why else why
    with pytest.raises(CommandRefusedError) as refused:
        run.say(fact)
    assert str(refused.value) == f"run {RUN_ID}: {type(fact).__name__} was refused: {said}"


def test_a_fork_after_what_never_was_says_how_far_it_may_go() -> None:
    run = started(flow(act("a")))
    last = len(run.rows)
    with pytest.raises(
        WonderError, match=re.escape(f"run {RUN_ID} has no event 99: it has {last}; see `wonder events {RUN_ID}`")
    ):
        History(RUN_ID, run.rows).point(99)
    with pytest.raises(WonderError, match=r"node 'x' was never begun in it; begun were 'a'$"):
        History(RUN_ID, run.rows).start_of("x")


def test_a_child_run_too_deep_says_how_deep() -> None:
    definition = flow(SubworkflowNode(id="c", workflow="w"), max_depth=1)
    run = CoreRun(definition)
    run.turn(facts.StartRun(input=None, workflow_name="w", workflow_version="v", depth=1))
    assert run.error is not None
    assert run.error.message == "a child run of 'w' would be 2 deep, and max_depth is 1; does the recursion end?"


def test_what_passes_a_join_and_cannot_be_written_ends_there() -> None:
    """The target is no object when the late member comes, though it was one when the join fired."""
    definition = flow(
        act("a"),
        act("b"),
        ComputeNode(id="w", output={"state.box": "1"}),
        act("end"),
        transitions=(
            edge("a", "b", spawn_count=2, group="g"),
            edge("b", "end", join=Join(over="g", strategy="any", remaining="pass", merge=(Merge(target="state.box.x"),))),
            edge("end", "w"),
        ),
    )
    run = started(definition)
    run.finish("a")
    run.finish("b")
    run.finish("end")
    run.finish("b")
    run.run_on()
    assert (run.status, run.completed["end"]) == ("completed", 1)


def test_a_trace_says_which_fact_is_handled_and_how_many_tokens_are_sent() -> None:
    run = CoreRun(flow(act("a"), transitions=(edge("a", "a", spawn_count=2, max_iterations=1),), start=("a",)), trace=True)
    run.start()
    run.finish("a")
    payloads = [json.loads(row["payload"]) | {"type": row["event_type"]} for row in run.traces if row.get("payload")]
    facts_told = [row["fact"] for row in payloads if row["type"] == "decision.routing.start"]
    assert facts_told == ["StartRun", "TaskSucceeded"]
    assert [row["tokens"] for row in payloads if row["type"] == "dispatch.batch.start"] == [1, 2]


def test_a_task_that_was_lost_is_recorded_as_failed_and_made_again() -> None:
    run = started(flow(act("a", retry=(Retry(max_attempts=2, backoff_s=0),))))
    token = run.flying.pop()
    lost = ErrorRecord("WorkerLost", "its worker is gone", node_id="a")
    run.turn(facts.TaskLost(token_id=token.id, attempt=1, epoch=1, error=lost, batched=False))
    assert [(row["attempt"], row["error"]["type"]) for row in run.events("task.failed")] == [(1, "WorkerLost")]
    run.run_on()
    assert (run.status, run.completed["a"]) == ("completed", 1)
