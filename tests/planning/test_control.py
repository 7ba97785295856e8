"""Guards, locks, effects of transitions, open groups, blocking joins, thresholds and time limits of joins."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core import CoreRun, every_order
from tests.planning.test_waits import act, edge, flow, started
from wonder_ray.decisions import FailWorkflow
from wonder_ray.definitions.models import ComputeNode, GateNode, Join, Merge, SignalNode, TimerNode, WorkflowDefinition
from wonder_ray.errors import CommandRefusedError
from wonder_ray.planning import facts
from wonder_ray.planning.lifecycle import stuck

# --- guards ----------------------------------------------------------------------------------------------------------


def milestone(**more: Any) -> WorkflowDefinition:
    """`b` may start only between `open` and `shut` of the other branch."""
    return flow(
        act("a"),
        act("b", guard="has(state.on) && state.on"),
        act("first"),
        ComputeNode(id="open", output={"state.on": "true"}),
        act("second"),
        ComputeNode(id="shut", output={"state.on": "false"}),
        act("missed"),
        transitions=(
            edge("a", "b"),
            edge("a", "first"),
            edge("first", "open"),
            edge("open", "second"),
            edge("second", "shut"),
            edge("b", "missed", on="failed[GuardUnsatisfied]"),
        ),
        **more,
    )


def test_a_guarded_node_starts_when_the_state_allows_it() -> None:
    run = started(milestone(), crash_every_turn=True)
    run.finish("a")
    assert run.of("b") == []
    run.finish("first")
    assert len(run.of("b")) == 1
    run.run_on()
    assert run.completed == {"a": 1, "b": 1, "first": 1, "open": 1, "second": 1, "shut": 1}


def test_a_task_that_has_started_is_made_again_whatever_its_guard_says_by_then() -> None:
    run = started(milestone())
    for node in ("a", "first", "second"):
        run.finish(node)
    run.crash()
    run.run_on()
    assert run.completed["b"] == 1


def test_a_milestone_that_has_passed_fails_the_node_that_waits_for_it() -> None:
    run = started(milestone(), room=1)
    for node in ("a", "first", "second"):
        run.finish(node)  # there is room for one task, and `second` is ready before `b` is looked at again
    run.run_on()
    assert run.completed["missed"] + run.completed["b"] == 1


def test_a_guard_that_only_an_update_can_make_true_waits_for_it() -> None:
    run = started(flow(act("a", guard="state.go == true")))
    assert run.status == "failed"  # there is no state.go: that is an error, not a no
    run = started(flow(act("a", guard="has(state.go)")))
    assert run.status == "waiting"
    run.say(facts.UpdateState(changes={"state.go": 1}))
    assert [token.node_id for token in run.flying] == ["a"]


def test_a_gate_is_withdrawn_while_its_guard_does_not_hold() -> None:
    definition = flow(GateNode(id="g", guard="!has(state.off) || !state.off"), SignalNode(id="s"), start=("g", "s"))
    run = started(definition, crash_every_turn=True)
    run.say(facts.UpdateState(changes={"state.off": True}))
    assert run.say(facts.AnswerGate(gate="g", answer=1))["kept"]
    run.say(facts.UpdateState(changes={"state.off": False}))
    assert run.completed == {"g": 1}


# --- locks -----------------------------------------------------------------------------------------------------------


def test_a_concurrency_key_admits_one_at_a_time_first_come_first_served() -> None:
    definition = flow(
        ComputeNode(id="a"),
        act("b", concurrency_key="'k' + string(item % 2)"),
        transitions=(edge("a", "b", foreach="[0, 1, 2, 3, 4]"),),
    )
    for script in every_order():
        run = CoreRun(definition, order=script).run()
        assert run.most_flying["b"] == 2
        assert run.completed["b"] == 5
        order = [token.index for token in sorted(run.state.tokens.values(), key=lambda t: t.wanted_at) if token.node_id == "b"]
        assert order[2:] == [2, 3, 4]


def test_a_limit_above_one_admits_so_many() -> None:
    definition = flow(
        ComputeNode(id="a"), act("b", concurrency_key="1", concurrency_limit=3), transitions=(edge("a", "b", spawn_count=7),)
    )
    run = CoreRun(definition).run()
    assert (run.most_flying["b"], run.completed["b"]) == (3, 7)


def critical() -> WorkflowDefinition:
    """Two sections of two nodes each that exclude each other."""
    return flow(
        ComputeNode(id="s"),
        *(act(node, mutex=("m",)) for node in ("a1", "a2", "b1", "b2")),
        act("after"),
        transitions=(
            *(edge("s", node) for node in ("a1", "b1")),
            edge("a1", "a2"),
            edge("b1", "b2"),
            edge("a2", "after"),
            edge("b2", "after"),
        ),
    )


@pytest.mark.parametrize("crash", [False, True])
def test_a_mutex_is_held_through_a_section_of_nodes(crash: bool) -> None:
    for script in every_order():
        run = CoreRun(critical(), order=script, crash_every_turn=crash).run()
        assert run.completed == {"s": 1, "a1": 1, "a2": 1, "b1": 1, "b2": 1, "after": 2}
        at = {
            node: (run.position("task.dispatched", node), run.position("task.completed", node))
            for node in ("a1", "a2", "b1", "b2")
        }
        assert at["a2"][1] < at["b1"][0] or at["b2"][1] < at["a1"][0]


def test_a_lock_is_free_again_when_its_holder_fails_or_is_cancelled() -> None:
    definition = flow(
        act("a", mutex=("m",)),
        act("b", mutex=("m",)),
        act("c"),
        TimerNode(id="t", duration_s=0),
        transitions=(edge("a", "c", on="failed"), edge("a", "c", on="cancelled")),
        start=("a", "b", "t"),
    )
    run = CoreRun(definition, {"a": lambda: 1 / 0})
    run.start()
    run.finish("a")
    assert len(run.of("b")) == 1
    run.run_on()
    assert run.completed == {"b": 1, "c": 1, "t": 1}


def test_locks_that_are_held_crosswise_are_a_deadlock_and_said_to_be() -> None:
    definition = flow(
        ComputeNode(id="s"),
        act("a1", mutex=("m",)),
        act("a2", mutex=("m", "n")),
        act("b1", mutex=("n",)),
        act("b2", mutex=("m", "n")),
        transitions=(edge("s", "a1"), edge("s", "b1"), edge("a1", "a2"), edge("b1", "b2")),
    )
    run = CoreRun(definition).run()
    assert run.error is not None
    assert run.error.type == "Deadlock"
    assert "2 tokens wait for locks that nobody will release: 'a2' (for mutex:n), 'b2' (for mutex:m)" in run.error.message


def test_a_lock_that_an_arrival_keeps_from_who_is_waited_for_is_a_deadlock_and_said_to_be() -> None:
    """The join's node names the mutex, too, so that who arrives holds it until the join has fired."""
    definition = flow(
        ComputeNode(id="s"),
        *(act(node, mutex=("m",)) for node in ("a", "b", "j")),
        transitions=(
            *(edge("s", node, group="g") for node in "ab"),
            *(edge(node, "j", join=Join(over="g")) for node in "ab"),
        ),
    )
    run = CoreRun(definition).run()
    assert run.error is not None
    assert run.error.type == "Deadlock"
    (group,) = run.state.groups
    assert run.error.message == (
        f"1 tokens wait at joins that nothing can reach any more: 'j' ({group}); "
        "1 tokens wait for locks that nobody will release: 'b' (for mutex:m); check the joins and mutexes of the definition"
    )


def test_a_run_that_was_stuck_at_a_join_would_say_at_which() -> None:
    definition = flow(
        *(act(node) for node in "abj"),
        transitions=tuple(edge(node, "j", join=Join(over="incoming")) for node in "ab"),
    )
    run = started(definition)
    run.finish("a")
    failed = stuck(run.state, run.graph)[-1]
    assert isinstance(failed, FailWorkflow)
    assert failed.error.message == (
        "1 tokens wait at joins that nothing can reach any more: 'j' (incoming:j:); check the joins and mutexes of the definition"
    )


# --- effects ---------------------------------------------------------------------------------------------------------


def test_a_transition_cancels_nodes_of_other_branches_and_their_handlers_run() -> None:
    definition = flow(
        act("s"),
        act("a"),
        act("b"),
        act("x"),
        act("done"),
        transitions=(
            edge("s", "a", group="g"),
            edge("s", "b", group="g"),
            edge("b", "done", cancel=("a",)),
            edge("a", "x", on="cancelled"),
        ),
    )
    run = started(definition)
    run.finish("s")
    run.finish("b")
    assert {token.node_id for token in run.flying} == {"x", "done"}
    run.run_on()
    assert run.completed == {"s": 1, "b": 1, "x": 1, "done": 1}


def test_a_branch_cancels_its_own_and_leaves_the_others_alone() -> None:
    definition = flow(
        ComputeNode(id="s"),
        act("a"),
        act("b"),
        act("done"),
        transitions=(
            edge("s", "a", foreach="[1, 2]", group="g"),
            edge("a", "b"),
            edge("a", "done", cancel=("b",)),
        ),
    )
    run = started(definition)
    run.finish("a", 1)
    assert len(run.of("b")) == 1, "what the same firing makes is not cancelled"
    run.run_on()
    assert run.completed == {"s": 1, "a": 2, "b": 2, "done": 2}


def many(effect: str) -> WorkflowDefinition:
    return flow(
        act("s"),
        act("each"),
        act("stop"),
        act("join"),
        act("end"),
        transitions=(
            edge("s", "each", foreach="[1, 2, 3]", group="g"),
            edge("s", "stop"),
            edge("stop", "end", **{effect: ("g",)}),
            edge("each", "join", join=Join(over="g", merge=(Merge(target="output.all"),))),
        ),
    )


@pytest.mark.parametrize(("effect", "joins"), [("complete_groups", 1), ("cancel_groups", 0)])
def test_a_group_is_completed_or_cancelled_from_another_branch(effect: str, joins: int) -> None:
    run = started(many(effect), crash_every_turn=True)
    run.finish("s")
    run.finish("each")
    run.finish("stop")
    run.run_on()
    expected = {"s": 1, "each": 1, "stop": 1, "end": 1} | ({"join": 1} if joins else {})
    assert run.completed == expected
    assert run.status == "completed"


# --- open groups -----------------------------------------------------------------------------------------------------


def open_flow(**join: Any) -> WorkflowDefinition:
    return flow(
        ComputeNode(id="s"),
        act("each", input={"item": "item", "index": "index"}),
        act("join"),
        transitions=(
            edge("s", "each", foreach="input", group="g", open=True),
            edge("each", "join", join=Join(over="g", merge=(Merge(target="output.all"),), **join)),
        ),
    )


def test_an_open_group_takes_members_until_it_is_closed() -> None:
    run = CoreRun(open_flow(), {"each": lambda item, index: [item, index]}, crash_every_turn=True)
    run.start([])
    assert run.status == "waiting"
    run.say(facts.AddMembers(group="g", items=["x", "y"]))
    while run.flying:
        run.step()
    assert run.status == "waiting"
    run.say(facts.AddMembers(group="g", items=["z"]))
    run.say(facts.SealGroup(group="g"))
    with pytest.raises(CommandRefusedError, match="is not open to members from outside, or was closed"):
        run.say(facts.AddMembers(group="g", items=["w"]))
    run.run_on()
    assert run.output == {"all": [["x", 0], ["y", 1], ["z", 2]]}


def test_an_open_group_can_be_completed_early() -> None:
    run = CoreRun(open_flow())
    run.start([1, 2])
    run.finish("each")
    run.say(facts.CompleteGroup(group="g"))
    run.run_on()
    assert run.output == {"all": [1]}
    with pytest.raises(CommandRefusedError, match="it has ended"):
        run.say(facts.CompleteGroup(group="g"))


def test_a_threshold_is_evaluated_at_each_arrival() -> None:
    definition = open_flow(strategy="m_of_n", m="results.exists(r, r == 7) ? group.arrived : group.size + 1", remaining="cancel")
    run = CoreRun(definition, {"each": lambda item, index: item})
    run.start([1, 7, 3])
    run.finish("each")
    run.finish("each", 1)
    assert run.of("join") == []
    run.finish("each")
    run.run_on()
    assert sorted(run.output["all"]) == [1, 3, 7]


# --- blocking and timed joins ----------------------------------------------------------------------------------------


def looped(**join: Any) -> WorkflowDefinition:
    return flow(
        *(act(node) for node in ("s", "a", "b", "join", "done")),
        transitions=(
            edge("s", "a", group="g"),
            edge("s", "b", group="g"),
            *(edge(node, "join", join=Join(over="g", strategy="any", **join)) for node in ("a", "b")),
            edge("join", "s", max_iterations=1),
            edge("join", "done", priority=1),
        ),
        start=("s",),
    )


@pytest.mark.parametrize("blocking", [False, True])
def test_a_blocking_join_waits_for_the_rest_of_the_instance_before(blocking: bool) -> None:
    run = started(looped(blocking=blocking), crash_every_turn=True)
    run.finish("s")
    run.finish("a")
    run.finish("join")
    run.finish("s")
    newer = max(run.of("a"), key=lambda token: token.ordinal)
    run.finish("a", run.of("a").index(newer))
    assert len(run.of("join")) == (0 if blocking else 1)
    older = min(run.of("b"), key=lambda token: token.ordinal)
    run.finish("b", run.of("b").index(older))
    assert len(run.of("join")) == 1
    run.run_on()
    assert run.completed == {"s": 2, "a": 2, "b": 2, "join": 2, "done": 1}


@pytest.mark.parametrize("over", ["g", "incoming"])
@pytest.mark.parametrize("on_timeout", ["fail", "proceed_with_available"])
def test_a_join_waits_no_longer_than_it_may(over: str, on_timeout: Any) -> None:
    definition = flow(
        *(act(node) for node in ("s", "a", "b", "join")),
        transitions=(
            edge("s", "a", group="g"),
            edge("s", "b", group="g"),
            *(
                edge(node, "join", join=Join(over=over, timeout_s=10, on_timeout=on_timeout, merge=(Merge(target="output.all"),)))
                for node in ("a", "b")
            ),
        ),
    )
    if over == "incoming":
        transitions = tuple(t.model_copy(update={"group": None}) for t in definition.transitions)
        definition = definition.model_copy(update={"transitions": transitions})
    run = CoreRun(definition, {"a": lambda: 1})
    run.start()
    run.finish("s")
    run.finish("a")
    run.crash()
    run.pass_time(9)
    assert run.status == "running"
    run.pass_time(1)
    if on_timeout == "fail":
        assert run.error is not None
        assert run.error.type == "JoinTimeout"
        assert "timeout_s of 10 s" in run.error.message
        return
    assert len(run.of("join")) == 1
    assert run.state.view("")["output"] == {"all": [1]}
    run.run_on()
    assert run.completed["join"] == (1 if over == "g" else 2)
