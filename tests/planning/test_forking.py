"""Where forks of a run can begin, what they may change, and what they take over."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core import RUN_ID, CoreRun
from tests.planning.test_waits import act, edge, flow, started
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.definitions.models import (
    ComputeNode,
    GateNode,
    Join,
    Retry,
    SignalNode,
    TimerNode,
    Undo,
    WorkflowDefinition,
)
from wonder_ray.errors import DefinitionError, WonderError
from wonder_ray.fold import fold
from wonder_ray.planning import facts
from wonder_ray.planning.forking import History, check_fork
from wonder_ray.state import Lineage


def fork(source: CoreRun, at: int | None = None, **how: Any) -> CoreRun:
    """A run that begins at a point of another one, an hour later."""
    history = History(RUN_ID, source.rows)
    state = history.state_at(history.point(at))
    run = CoreRun(source.definition, source.actions, **how)
    then_us = next(row["turn_now"] for row in source.rows if row["turn"] == state.run.turn)
    run.clock.advance(seconds=(then_us - run.clock.now_us()) / 1e6 + 3600)
    lineage = Lineage(run_id=RUN_ID, sequence=state.run.sequence)
    wish = facts.Fork(source=lineage, state=state, at_us=then_us)
    run.turn(facts.StartRun(input=state.run.input, workflow_name="test", workflow_version="v", fork=wish))
    return run


def two() -> WorkflowDefinition:
    """L1: `one` succeeds, `two` fails twice."""
    return flow(
        act("one", output={"state.one": "result"}),
        act("two", output={"state.two": "result"}, retry=(Retry(max_attempts=2, backoff_s=1),)),
        output={"sum": "1 + state.one + state.two"},
    )


def failing(**given: Any) -> int:
    raise ValueError("not yet")


# --- points ----------------------------------------------------------------------------------------------------------


def test_a_failed_run_is_forked_before_its_end_was_decided_and_keeps_what_was_finished() -> None:
    calls: list[str] = []

    def one() -> int:
        calls.append("one")
        return 2

    def fails() -> int:
        calls.append("two")
        return failing()

    source = CoreRun(two(), {"one": one, "two": fails}).run()
    assert (source.status, calls) == ("failed", ["one", "two", "two"])
    again = fork(source, checked=True).run_on()
    assert (again.status, calls) == ("failed", ["one", *["two"] * 4])
    source.actions = {"one": one, "two": lambda: 3}
    mended = fork(source, crash_every_turn=True).run_on()
    assert (mended.status, mended.output) == ("completed", {"sum": 6})
    assert calls.count("one") == 1


def test_a_point_is_the_end_of_its_turn_and_lies_before_the_end() -> None:
    source = CoreRun(flow(act("a"), act("b"), transitions=(edge("a", "b"),))).run()
    history = History(RUN_ID, source.rows)
    done = source.position("task.completed", "a")
    sent = source.position("task.dispatched", "b")
    assert history.point(None) == history.point(done) == history.point(sent) == sent
    decided = next(row["sequence_number"] for row in source.rows if row["event_type"] == "workflow.completed")
    last = len(source.rows)
    for at, why in (
        (0, f"has no event 0: it has {last}"),
        (last + 1, f"has no event {last + 1}: it has {last}"),
        (last, rf"no fork can begin after event {last}.*\(workflow.completed, event {decided}\); the last point is event {sent}"),
        (sent + 1, f"no fork can begin after event {sent + 1}"),
    ):
        with pytest.raises(WonderError, match=why):
            history.point(at)


def test_a_run_that_goes_on_is_forked_where_it_stands() -> None:
    source = started(flow(act("a"), act("b"), transitions=(edge("a", "b"),)))
    assert History(RUN_ID, source.rows).point(None) == len(source.rows)


@pytest.mark.parametrize("definition", [flow(ComputeNode(id="a")), None])
def test_what_has_no_point_between_is_said(definition: WorkflowDefinition | None) -> None:
    rows = [] if definition is None else CoreRun(definition).run().rows
    with pytest.raises(WonderError, match="has no events yet" if definition is None else "began and ended within one turn"):
        History(RUN_ID, rows).point(None)


def test_work_that_was_taken_back_is_not_counted_on() -> None:
    undo = {"undo": Undo(action="m:u")}
    definition = flow(act("a"), act("b", **undo), act("c"), transitions=(edge("a", "b"), edge("b", "c")))
    source = CoreRun(definition, {"c": failing}).run()
    history = History(RUN_ID, source.rows)
    sent = source.position("task.dispatched", "b")
    with pytest.raises(WonderError, match=rf"takes back the work of 'b'.*fork at event {sent}, before"):
        history.state_at(history.point(None))
    source.actions = {}
    assert fork(source, sent).run_on().completed == {"b": 1, "c": 1}


def test_a_cancel_that_leaves_work_alone_can_be_forked() -> None:
    definition = flow(act("b", undo=Undo(action="m:u")), act("c"), transitions=(edge("b", "c"),))
    source = started(definition)
    source.finish("b")
    source.say(facts.CancelRun(reason="no"))
    assert fork(source).run_on().completed == {"c": 1}


# --- restarting from a node ------------------------------------------------------------------------------------------


def test_a_node_is_restarted_in_the_turn_in_which_it_was_last_begun() -> None:
    definition = flow(act("a"), act("b"), act("c"), transitions=(edge("a", "b"), edge("b", "c")))
    source = CoreRun(definition).run()
    history = History(RUN_ID, source.rows)
    for node in "abc":
        at = history.start_of(node)
        assert source.position("task.dispatched", node) == at
        again = fork(source, at).run_on()
        assert sorted(again.completed) == [each for each in "abc" if each >= node]
    with pytest.raises(WonderError, match="node 'x' was never begun in it; begun were 'a', 'b', 'c'"):
        history.start_of("x")


def test_a_loop_is_restarted_in_its_last_round() -> None:
    definition = flow(act("a"), transitions=(edge("a", "a", max_iterations=2, when="true"),), start=("a",))
    source = CoreRun(definition, {"a": lambda: 1}).run()
    assert History(RUN_ID, source.rows).start_of("a") == source.positions("task.dispatched", "a")[-1]


def test_a_node_that_began_and_ended_within_a_turn_says_what_to_restart_instead() -> None:
    definition = flow(act("a"), ComputeNode(id="b"), act("c"), transitions=(edge("a", "b"), edge("b", "c")))
    source = CoreRun(definition).run()
    sent = source.position("task.dispatched", "a")
    with pytest.raises(WonderError, match=rf"'b' began and ended within one turn.*restart from 'a', or fork at event {sent}"):
        History(RUN_ID, source.rows).start_of("b")
    first = CoreRun(flow(ComputeNode(id="b"), act("c"), transitions=(edge("b", "c"),))).run()
    with pytest.raises(WonderError, match="start the run anew"):
        History(RUN_ID, first.rows).start_of("b")


# --- what is taken over ----------------------------------------------------------------------------------------------


def test_what_waits_has_as_long_as_it_had_then_and_a_moment_stays_a_moment() -> None:
    definition = flow(
        GateNode(id="gate", timeout_s=100),
        SignalNode(id="sig", timeout_s=50),
        TimerNode(id="timer", duration_s=200),
        TimerNode(id="until", until="input.at"),
        start=("gate", "sig", "timer", "until"),
    )
    source = started(definition, {"at": 4_000_000_000})
    source.pass_time(10)
    source.say(facts.UpdateState(changes={"state.x": 1}))
    again = fork(source)
    now_us = again.clock.now_us()
    left = {token.node_id: ((token.due_us or 0) - now_us) / 1e6 for token in again.state.tokens.values()}
    assert {node: left[node] for node in ("gate", "sig", "timer")} == {"gate": 90, "sig": 40, "timer": 190}
    assert next(token.due_us for token in again.state.tokens.values() if token.node_id == "until") == 4_000_000_000_000_000
    again.pass_time(89)
    assert again.status == "failed", "the signal timed out"


def test_a_join_has_as_long_as_it_had_then() -> None:
    definition = flow(
        *(act(node) for node in ("s", "a", "b", "join")),
        transitions=(
            edge("s", "a", group="g"),
            edge("s", "b", group="g"),
            *(edge(node, "join", join=Join(over="g", timeout_s=100, on_timeout="proceed_with_available")) for node in ("a", "b")),
        ),
    )
    source = started(definition)
    source.finish("s")
    source.pass_time(40)
    source.finish("a")
    again = fork(source)
    (group,) = again.state.groups.values()
    assert ((group.due_us or 0) - again.clock.now_us()) / 1e6 == 60


def test_a_join_over_incoming_has_as_long_as_it_had_then() -> None:
    join = Join(over="incoming", timeout_s=100, on_timeout="proceed_with_available")
    definition = flow(*(act(node) for node in "abj"), transitions=(edge("a", "j", join=join), edge("b", "j", join=join)))
    source = started(definition)
    source.finish("a")
    source.pass_time(40)
    source.say(facts.UpdateState(changes={"state.x": 1}))
    again = fork(source)
    again.pass_time(59)
    assert again.of("j") == []
    again.pass_time(1)
    assert len(again.of("j")) == 1


def test_what_comes_late_to_a_join_that_had_fired_is_late_in_a_fork_too() -> None:
    join = Join(over="incoming", strategy="any")
    source = started(flow(*(act(node) for node in "abj"), transitions=(edge("a", "j", join=join), edge("b", "j", join=join))))
    source.finish("a")
    again = fork(source, crash_every_turn=True)
    again.finish("b")
    assert len(again.events("fan_in.absorbed")) == 1
    assert again.run_on().completed == {"b": 1, "j": 1}


def test_a_retry_that_was_due_later_is_made_at_once_and_anew() -> None:
    source = CoreRun(two(), {"one": lambda: 2, "two": failing})
    source.start()
    source.finish("two")
    again = fork(source)
    assert {token.node_id: token.attempt for token in again.flying} == {"one": 1, "two": 1}


# --- changes and other versions --------------------------------------------------------------------------------------


def test_changes_must_be_ones_that_can_be_made() -> None:
    schema = {"properties": {"n": {"type": "integer"}}}
    source = started(flow(GateNode(id="g"), state=schema))
    state, graph = fold(RUN_ID, source.rows), compile_graph(source.definition)
    check_fork(state, graph, {"state.n": 1, "output.m": "x"})
    for changes, why in (
        ({"state.n": "x"}, "would break the workflow's schema"),
        ({"input.n": 1}, "must start with state or output"),
        ({"state.n": {1}}, "no JSON"),
    ):
        with pytest.raises(WonderError, match=why):
            check_fork(state, graph, changes)


def test_another_version_must_have_what_the_state_needs() -> None:
    split = (edge("s", "a", foreach="[1, 2]", group="g"), edge("a", "j", join=Join(over="g")))
    definition = flow(ComputeNode(id="s"), act("a"), act("j"), GateNode(id="g"), transitions=split, start=("s", "g"))
    source = started(definition)
    source.finish("a")
    state = fold(RUN_ID, source.rows)
    more = flow(ComputeNode(id="s"), act("a"), act("j"), GateNode(id="g"), act("z"), transitions=split, start=("s", "g"))
    check_fork(state, compile_graph(more), {})
    for other, what in (
        (flow(ComputeNode(id="s"), act("b"), act("j"), GateNode(id="g")), "node 'a'"),
        (flow(ComputeNode(id="s"), act("a"), act("j"), GateNode(id="g"), transitions=(edge("a", "j"),)), "group 'g'"),
        (flow(ComputeNode(id="s"), act("a"), act("j"), act("g"), transitions=split), "node 'g' as the kind of node"),
        (
            flow(ComputeNode(id="s"), act("a"), act("j"), act("k"), GateNode(id="g"),
                 transitions=(split[0], edge("a", "k", join=Join(over="g")))),
            "the join that tokens wait at before node 'j'",
        ),
    ):  # fmt: skip
        with pytest.raises(DefinitionError, match=f"needs {what}"):
            check_fork(state, compile_graph(other), {})


def test_another_version_must_have_the_join_over_incoming_that_tokens_wait_at() -> None:
    joined = (edge("a", "j", join=Join(over="incoming")), edge("b", "j", join=Join(over="incoming")))
    nodes = [act(node) for node in "abcj"]
    source = started(flow(*nodes, transitions=joined))
    source.finish("a")
    state = fold(RUN_ID, source.rows)
    check_fork(state, compile_graph(flow(*nodes, act("more"), transitions=joined)), {})
    for transitions in (
        (edge("a", "j"), edge("b", "j")),
        (edge("b", "j", join=Join(over="incoming")), edge("c", "j", join=Join(over="incoming"))),
    ):
        with pytest.raises(DefinitionError, match="needs the join that tokens wait at before node 'j'"):
            check_fork(state, compile_graph(flow(*nodes, transitions=transitions)), {})
