"""What comes together in one moment: decided by one firing, due at one time, or withdrawn with something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.planning.test_waits import act, edge, flow, started
from wonder_ray.definitions.models import ComputeNode, Join, TimerNode, Undo

if TYPE_CHECKING:
    from tests.core import CoreRun
    from wonder_ray.definitions.models import WorkflowDefinition

IN = Join(over="incoming")


def finish_all(run: CoreRun, *names: str) -> CoreRun:
    for name in names:
        run.finish(name)
    return run


# --- of one firing ---------------------------------------------------------------------------------------------------


def test_a_group_that_one_transition_cancels_is_not_completed_by_another_that_fires_with_it() -> None:
    definition = flow(
        *(act(node) for node in ("s", "each", "stop", "x", "y", "join")),
        transitions=(
            edge("s", "each", foreach="[1, 2]", group="g"),
            edge("s", "stop"),
            edge("stop", "x", cancel_groups=("g",)),
            edge("stop", "y", complete_groups=("g",)),
            edge("each", "join", join=Join(over="g")),
        ),
    )
    run = finish_all(started(definition), "s", "each", "stop").run_on()
    assert len(run.events("group.cancelled")) == 1
    assert run.events("group.completed_early") == []
    assert run.completed == {"s": 1, "each": 1, "stop": 1, "x": 1, "y": 1}


@pytest.mark.parametrize("fired", [False, True])
def test_nothing_goes_on_from_a_branch_that_cancels_a_group_around_its_own(fired: bool) -> None:
    """Even where the group in between is no more to be cancelled, since its join has fired."""
    definition = flow(
        *(act(node) for node in ("s", "a", "b", "end", "join")),
        transitions=(
            edge("s", "a", foreach="[1, 2]", group="outer"),
            edge("a", "b", spawn_count=2, group="inner"),
            edge("b", "join", join=Join(over="inner", strategy="any"), when="index == 0"),
            edge("b", "end", cancel_groups=("outer",), when="index == 1"),
        ),
    )
    run = finish_all(started(definition), "s", "a", *(["b"] if fired else []))
    assert len(run.of("join")) == fired
    run.finish("b", 0 if fired else 1)
    assert (run.status, run.completed) == ("completed", {"s": 1, "a": 1, "b": 1 + fired})


def test_who_was_withdrawn_while_it_waited_for_room_is_passed_over() -> None:
    """A node with a key is served one after the other, from a queue in which somebody no longer waits."""
    definition = flow(
        *(act(node) for node in ("s", "stop", "end")),
        act("b", concurrency_key="token.id"),
        transitions=(
            *(edge("s", "b", group=group) for group in "wxyz"),
            edge("s", "stop"),
            edge("stop", "end", cancel_groups=("y",)),
        ),
    )
    run = finish_all(started(definition, room=1), "s", "stop")
    assert len(run.of("b")) == 1
    run._room = 10
    run.finish("b")
    assert len(run.of("b")) == 2, "x and z"
    assert run.run_on().completed == {"s": 1, "stop": 1, "end": 1, "b": 3}


# --- of one time -----------------------------------------------------------------------------------------------------


def test_of_two_timers_that_race_and_go_off_at_one_time_the_first_wins() -> None:
    definition = flow(
        ComputeNode(id="s"),
        TimerNode(id="one", duration_s=5),
        TimerNode(id="other", duration_s=5),
        transitions=(edge("s", "one", race="r"), edge("s", "other", race="r")),
    )
    run = started(definition)
    run.pass_time(5)
    assert (run.status, run.completed) == ("completed", {"s": 1, "one": 1})
    assert len(run.events("timer.fired")) == 1


def test_of_two_failures_of_one_moment_the_first_ends_the_run_and_the_other_is_not_routed() -> None:
    definition = flow(
        act("a", undo=Undo(action="m:u")),
        *(act(node, input={"x": "state.none"}) for node in ("b", "c")),
        act("handler"),
        transitions=(edge("a", "b"), edge("a", "c"), edge("c", "handler", on="failed")),
    )
    run = finish_all(started(definition), "a")
    assert [row["node_id"] for row in run.events("token.failed")] == ["b", "c"]
    assert run.status == "compensating"
    run.run_on()
    assert run.error is not None
    assert (run.status, run.error.node_id) == ("failed", "b")
    assert run.completed == {"a": 1, "undo:a": 1}


# --- in several branches ---------------------------------------------------------------------------------------------


def rivals(*, waited_for: bool) -> WorkflowDefinition:
    """Two branches; in each `m` and `n` wait for each other as soon as `w`, which one of them waits for, is cancelled.

    In the second branch `w` is what `k` waits for, so that it goes on with that; unless `waited_for`, it is as the first.
    """
    other = "item == 2" if waited_for else "item == 3"
    return flow(
        *(act(node) for node in ("s", "stop", "done", "b", "w", "p", "q", "m", "n", "c", "k", "end")),
        transitions=(
            edge("s", "b", foreach="[1, 2]", group="g"),
            edge("s", "stop"),
            edge("stop", "done", cancel=("w",)),
            edge("b", "w"),
            edge("b", "p", when=f"!({other})"),
            edge("b", "q", when=f"!({other})"),
            edge("b", "c", when=other),
            edge("c", "k", join=IN),
            edge("w", "k", join=IN, when=other),
            edge("p", "m", join=IN),
            edge("q", "n", join=IN),
            edge("w", "n", join=IN, when=f"!({other})"),
            edge("m", "n", join=IN, max_iterations=1),
            edge("n", "m", join=IN, max_iterations=1),
            *(edge(node, "end", priority=1) for node in "mn"),
        ),
    )


@pytest.mark.parametrize(
    ("waited_for", "ready", "works"),
    [(False, {"done", "n"}, ("p", "q", "p", "q")), (True, {"done", "n", "k"}, ("p", "q", "c"))],
)
def test_joins_that_wait_for_each_other_in_one_branch_fire_whatever_happens_in_another(
    waited_for: bool, ready: set[str], works: tuple[str, ...]
) -> None:
    run = finish_all(started(rivals(waited_for=waited_for)), "s", "b", "b", *works, "stop")
    assert {token.node_id for token in run.flying} == ready
    assert len(run.flying) == 3, "in each branch one"
    assert run.run_on().status == "completed"
