"""Mutexes, gates, timers, races, effects and ends: what is sound of them, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cases.words import all_of, edge, m_of, node, workflow
from tests.core import CoreRun, every_order
from tests.soundness.test_verdicts import example, verdict
from wonder_ray.definitions.models import (
    ComputeNode,
    Escalation,
    GateNode,
    SignalNode,
    SubworkflowNode,
    TerminateNode,
    TimerNode,
    Undo,
)
from wonder_ray.soundness import check_soundness

if TYPE_CHECKING:
    from wonder_ray.definitions.models import Join, WorkflowDefinition


def join_with(over: str, **rest: Any) -> Join:
    return all_of(over).model_copy(update=rest)


# --- mutexes -----------------------------------------------------------------------------------------------------------


def crossed(*, same_order: bool) -> WorkflowDefinition:
    """Two branches that take two mutexes one after the other and keep the first: in the same order, or crossed."""
    second = ("m", "n") if same_order else ("n", "m")
    return workflow(
        [
            *(node("start"), node("b0")),
            node("a1", mutex=("m",)),
            node("a2", mutex=("m", "n")),
            node("b1", mutex=second[:1]),
            node("b2", mutex=second),
        ],
        edge("start", "a1"),
        edge("start", "b0"),
        edge("b0", "b1"),
        edge("a1", "a2"),
        edge("b1", "b2"),
    )


def test_mutexes_that_are_taken_crosswise_deadlock() -> None:
    found = check_soundness(crossed(same_order=False))
    assert (found.verdict, [(p.kind, p.place) for p in found.problems]) == (
        "unsound",
        [("mutex_deadlock", "mutex:m and mutex:n")],
    )
    assert found.problems[0].message == "'a2' and 'b2' can wait for ever for 'm' and 'n', which no other will release"
    steps = example(found, "mutex_deadlock")
    assert steps[:2] == ["the run starts", "'start' completes and goes on to 'a1' and 'b0'"]
    assert len(steps) == 5
    assert steps[-1].endswith("the run fails (Deadlock)")


def test_mutexes_that_are_taken_in_one_order_do_not() -> None:
    assert verdict(crossed(same_order=True)) == ("sound", [])


@pytest.mark.parametrize("same_order", [False, True])
def test_the_core_deadlocks_where_it_was_said_to(same_order: bool) -> None:
    errors = set()
    for order in every_order():
        run = CoreRun(crossed(same_order=same_order), order=order, checked=False).run()
        errors.add(None if run.error is None else run.error.type)
    assert ("Deadlock" in errors) is not same_order


def test_a_mutex_that_is_held_across_a_join_that_needs_it() -> None:
    """The branch that waits at the join holds what the other branch has to take before it can come."""
    definition = workflow(
        [node("a"), node("b", mutex=("m",)), node("c"), node("d", mutex=("m",)), node("j", mutex=("m",))],
        edge("a", "b", group="g"),
        edge("a", "c", group="g"),
        edge("c", "d"),
        edge("b", "j", join=all_of("g")),
        edge("d", "j", join=all_of("g")),
    )
    found = check_soundness(definition)
    runs = [CoreRun(definition, order=order, checked=False).run() for order in every_order()]
    deadlocks = any(run.error is not None and run.error.type == "Deadlock" for run in runs)
    assert (found.verdict == "unsound") is deadlocks


# --- what waits for the world ------------------------------------------------------------------------------------------


def test_what_waits_for_the_world_ends_some_time() -> None:
    definition = workflow(
        [
            GateNode(id="gate", escalate=(Escalation(after_s=5, assignee="'boss'"),), timeout_s=10),
            SignalNode(id="signal"),
            TimerNode(id="timer", duration_s="input.s"),
            SubworkflowNode(id="child", workflow="other"),
            node("late"),
            ComputeNode(id="mend"),
        ],
        edge("gate", "signal"),
        edge("gate", "late", on="timed_out"),
        edge("signal", "timer"),
        edge("timer", "child"),
        edge("child", "mend", on="failed"),
    )
    assert verdict(definition) == ("sound", [])


def test_an_example_says_what_comes_from_the_world() -> None:
    definition = workflow(
        [GateNode(id="ask"), TimerNode(id="pause", duration_s=5), SignalNode(id="go"), node("b"), node("j")],
        edge("ask", "pause"),
        edge("pause", "go"),
        edge("go", "b", group="g"),
        edge("b", "j", join=m_of(2, "g")),
    )
    steps = example(check_soundness(definition), "waits_for_ever")
    assert [step.split(" and goes on")[0] for step in steps[:3]] == ["the run starts", "'ask' is answered", "'pause' goes off"]


def test_a_race_that_somebody_wins() -> None:
    definition = workflow(
        [node("a"), GateNode(id="ask"), TimerNode(id="late", duration_s=5), node("b"), node("c")],
        edge("a", "ask", race="r"),
        edge("a", "late", race="r"),
        edge("ask", "b"),
        edge("late", "c"),
    )
    assert verdict(definition) == ("sound", [])
    both = definition.model_copy(
        update={
            "nodes": (*definition.nodes, node("both")),
            "transitions": (
                *definition.transitions[:2],
                edge("ask", "both", join=all_of("incoming"), when="state.never"),
                *definition.transitions[2:],
            ),
        }
    )
    assert verdict(both)[0] == "sound"


def test_what_a_race_never_lets_through_never_runs() -> None:
    definition = workflow(
        [node("a"), GateNode(id="ask"), TimerNode(id="late", duration_s=5), node("j"), node("k")],
        edge("a", "ask", group="g", race="r"),
        edge("a", "late", group="g", race="r"),
        edge("ask", "j", join=m_of(2, "g")),
        edge("late", "j", join=m_of(2, "g")),
        edge("a", "k", on="group_failed(g)"),
    )
    assert verdict(definition) == ("unsound", [("never_runs", "j")])


def test_an_open_group_is_closed_some_time() -> None:
    definition = workflow("a b j", edge("a", "b", foreach="[]", group="g", open=True), edge("b", "j", join=all_of("g")))
    assert verdict(definition) == ("sound", [])
    needy = workflow("a b j", edge("a", "b", foreach="[]", group="g", open=True), edge("b", "j", join=m_of(2, "g")))
    found = check_soundness(needy)
    assert [problem.kind for problem in found.problems] == ["waits_for_ever"]
    assert example(found, "waits_for_ever")[-1].startswith("group 'g' is closed from outside")


def test_a_join_that_waits_no_longer_than_it_may() -> None:
    proceeds = join_with("g", timeout_s=5, on_timeout="proceed_with_available")
    definition = workflow(
        "a b c j", edge("a", "b", group="g"), edge("a", "c", group="g"), *(edge(n, "j", join=proceeds) for n in "bc")
    )
    assert verdict(definition) == ("sound", [])
    fails = join_with("g", timeout_s=5)
    handled = workflow(
        "a b c j k",
        edge("a", "b", group="g"),
        edge("a", "c", group="g"),
        *(edge(n, "j", join=fails) for n in "bc"),
        edge("a", "k", on="group_failed(g)[JoinTimeout]"),
    )
    assert verdict(handled) == ("sound", [])
    incoming = join_with("incoming", timeout_s=5, on_timeout="proceed_with_available")
    assert (
        verdict(workflow("a b c j", edge("a", "b"), edge("a", "c"), *(edge(n, "j", join=incoming) for n in "bc")))[0] == "sound"
    )


def test_blocking_joins_wait_for_the_earlier_ones() -> None:
    blocking = join_with("g", blocking=True)
    definition = workflow("a b c j", edge("a", "b", spawn_count=2), edge("b", "c", group="g"), edge("c", "j", join=blocking))
    assert verdict(definition) == ("sound", [])


# --- effects and ends --------------------------------------------------------------------------------------------------


def test_a_node_that_ends_the_run_cuts_others_off() -> None:
    definition = workflow(
        [node("a"), node("b"), node("c"), node("d"), TerminateNode(id="end")],
        edge("a", "b"),
        edge("a", "c"),
        edge("c", "d"),
        edge("b", "end"),
    )
    found = check_soundness(definition)
    assert [(p.kind, p.place) for p in found.problems] == [("left_behind", "end")]
    assert found.problems[0].message == "'end' can end the run while 'c' goes on"
    assert example(found, "left_behind")[-1] == "'b' completes and goes on to 'end'; 'c' is cancelled; the run completes"


def test_a_node_that_ends_the_run_alone_leaves_nothing() -> None:
    either = workflow(
        [node("a"), TerminateNode(id="bad", status="failed"), TerminateNode(id="good")],
        edge("a", "bad", when="state.x"),
        edge("a", "good", when="!state.x"),
    )
    assert verdict(either) == ("sound", [])
    only_bad = workflow([node("a"), TerminateNode(id="bad", status="failed")], edge("a", "bad"))
    assert verdict(only_bad) == ("unsound", [("never_completes", "case")])


def test_what_an_effect_cancels_runs_its_handler() -> None:
    definition = workflow(
        "a b c d told", edge("a", "b"), edge("a", "c"), edge("b", "d", cancel=("c",)), edge("c", "told", on="cancelled")
    )
    assert verdict(definition) == ("sound", [])


def test_a_group_that_an_effect_completes_is_joined() -> None:
    definition = workflow(
        "a b c j",
        edge("a", "b", group="g"),
        edge("a", "c", group="g"),
        edge("b", "j", join=m_of(2, "g"), complete_groups=("g",)),
        edge("c", "j", join=m_of(2, "g")),
    )
    assert verdict(definition) == ("sound", [])


def test_guards_keys_and_undos_only_delay() -> None:
    undo = Undo(action="m:undo", input={"id": "result"})
    definition = workflow(
        [
            node("a", undo=undo),
            node("b", guard="has(state.x)", concurrency_key="item", concurrency_limit=2),
            node("c"),
        ],
        edge("a", "b", foreach="input"),
        edge("b", "c", on="failed[GuardUnsatisfied]"),
    )
    assert verdict(definition) == ("sound", [])
