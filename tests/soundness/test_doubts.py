"""What counts, data, expressions and time decide: called sound or unsound where that is sure, and unknown where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cases.words import all_of, any_of, append, edge, m_of, node, workflow
from tests.soundness.test_verdicts import split, verdict
from wonder_ray.definitions.models import ComputeNode, TimerNode
from wonder_ray.soundness import check_soundness

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition


# --- counts ---------------------------------------------------------------------------------------------------------


def inside(count: int, of: int, needed: int | str, *, outer: int = 1, how: str = "spawn_count") -> WorkflowDefinition:
    """A fan-out within a branch (or some) of a group, whose join counts."""
    fan_out: dict[str, Any] = {how: count if how == "spawn_count" else str(list(range(count)))}
    return workflow(
        "a b c j",
        *(edge("a", "b", group="g") for _ in range(outer)),
        edge("b", "c", **fan_out),
        *(edge("c", "c", max_iterations=1, spawn_count=of) for _ in range(of > 1)),
        edge("c", "j", priority=of > 1, join=m_of(needed, "g")),
    )


@pytest.mark.parametrize("how", ["spawn_count", "foreach"])
@pytest.mark.parametrize(("count", "outer", "needed", "sound"), [
    (3, 1, 3, True), (3, 1, 4, False), (3, 2, 6, True), (3, 2, 7, False), (20, 1, 20, True), (20, 1, 21, False), (5, 4, 20, True),
])  # fmt: skip
def test_branches_inside_of_branches_are_counted(count: int, outer: int, needed: int, sound: bool, how: str) -> None:
    found = check_soundness(inside(count, 1, needed, outer=outer, how=how))
    assert found.verdict == ("sound" if sound else "unsound")
    assert ("waits_for_ever" in {problem.kind for problem in found.problems}) is not sound


def test_three_branches_in_a_group_inside_of_one_are_counted_by_the_outer_join() -> None:
    """The join of the inner group is left behind, and its members arrive at that of the outer one."""
    definition = workflow(
        "a b c j", edge("a", "b", group="g"), edge("b", "c", group="h", spawn_count=3), edge("c", "j", join=m_of(1, "g"))
    )
    assert check_soundness(definition).verdict == "unsound"  # `h` is never joined
    joined = workflow(
        "a b c i j",
        edge("a", "b", group="g"),
        edge("b", "c", group="h", spawn_count=3),
        edge("c", "i", join=m_of(3, "h", "pass")),
        edge("i", "j", join=all_of("g")),
    )
    assert verdict(joined) == ("sound", [])


def test_what_more_branches_than_can_be_explored_come_to_is_unknown() -> None:
    found = check_soundness(inside(5_000, 1, 4_000))
    assert (found.verdict, found.problems) == ("unknown", ())
    assert "'b' -> 'c' makes 5,000 branches, of which 12 were explored" in (found.reason or "")


def test_what_smaller_counts_show_is_tried_with_the_true_ones() -> None:
    definition = workflow(
        "a b c d j",
        edge("a", "b", group="g"),
        edge("b", "c", spawn_count=200),
        edge("c", "d", when="state.x"),
        edge("d", "j", join=m_of(3, "g")),
    )
    found = check_soundness(definition)
    assert ("left_behind", "c") in {(problem.kind, problem.place) for problem in found.problems}


def test_joins_over_incoming_have_each_their_own_m() -> None:
    definition = workflow(
        "a b c d",
        edge("a", "b"),
        edge("b", "c", join=m_of(2, "incoming")),
        edge("c", "d", join=m_of(1, "incoming")),
    )
    found = check_soundness(definition)
    assert ("waits_for_ever", "c") in {(problem.kind, problem.place) for problem in found.problems}


def test_a_list_of_the_input_has_one_length() -> None:
    definition = workflow(
        "a b c d j",
        edge("a", "b", group="g", foreach="input.list"),
        edge("b", "c", join=all_of("g")),
        edge("c", "d", group="h", foreach="input.list"),
        edge("d", "j", join=all_of("h")),
    )
    assert verdict(definition) == ("sound", [])
    loop = workflow(
        "a b c j end",
        edge("a", "b", group="g", when="input.deep"),
        edge("a", "end", priority=1),
        edge("b", "c"),
        edge("c", "j", when="input.deep", join=m_of(1, "g")),
        edge("j", "a", max_iterations=1, when="state.more"),
        edge("j", "end", priority=1),
        start=("a",),
    )
    assert verdict(loop) == ("sound", [])


# --- an m that depends on data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", ["input.m", "state.m", "group.size + input.more", "size(results)"])
def test_an_m_of_data_may_ask_for_too_much(m: str) -> None:
    found = check_soundness(split(edge("b", "j", join=m_of(m, "g")), edge("c", "j", join=m_of(m, "g"))))
    assert (found.verdict, found.problems) == ("unknown", ())
    assert [(problem.kind, problem.place) for problem in found.undecided] == [("waits_for_ever", "j")]
    assert "depends on data" in (found.reason or "")
    assert found.undecided[0].example[-1].endswith("the run fails (JoinUnsatisfied)")


def test_an_m_of_data_that_is_handled_is_sound() -> None:
    joined = (edge(n, "j", join=m_of("input.m", "g")) for n in "bc")
    definition = workflow("a b c j k", edge("a", "b", group="g"), edge("a", "c", group="g"), *joined,
                          edge("a", "k", on="group_failed(g)[JoinUnsatisfied]"))  # fmt: skip
    assert verdict(definition) == ("sound", [])


def test_an_m_of_the_group_alone_is_computed() -> None:
    def of(m: str) -> WorkflowDefinition:
        return workflow("a b j", edge("a", "b", group="g", foreach="[1, 2, 3, 4, 5]"), edge("b", "j", join=m_of(m, "g")))

    assert verdict(of("group.size / 2 + 1")) == ("sound", [])
    assert check_soundness(of("group.size + 1")).verdict == "unsound"


# --- failures that expressions make ---------------------------------------------------------------------------------


def computed(kind: str = "", **rest: Any) -> WorkflowDefinition:
    return workflow(
        [node("a"), ComputeNode(id="b", **rest), node("j"), node("k")],
        edge("a", "b", group="g"),
        edge("b", "j", join=all_of("g")),
        edge("a", "k", on=f"group_failed(g){kind}"),
    )


def test_what_is_computed_fails_where_it_evaluates_something() -> None:
    assert verdict(computed(output={"state.x": "input.x"})) == ("sound", [])
    assert verdict(computed()) == ("unsound", [("never_runs", "k")])


def test_a_handler_that_only_a_guard_or_a_merge_leads_to_is_undecided() -> None:
    found = check_soundness(computed("[GuardUnsatisfied]", guard="state.x"))
    assert (found.verdict, [(p.kind, p.place) for p in found.undecided]) == ("unknown", [("never_runs", "k")])
    merging = workflow(
        [node("a"), ComputeNode(id="b"), node("j"), node("k")],
        edge("a", "b", group="g"),
        edge("b", "j", join=all_of("g", append("state.x", "input.x"))),
        edge("a", "k", on="group_failed(g)"),
    )
    found = check_soundness(merging)
    assert (found.verdict, [(p.kind, p.place) for p in found.undecided]) == ("unknown", [("never_runs", "k")])


def test_a_compute_that_fails_ends_its_group_in_the_same_turn() -> None:
    definition = workflow(
        [node("a"), ComputeNode(id="b", output={"state.x": "1"}), node("c"), node("j")],
        edge("a", "b", group="g"),
        edge("b", "c"),
        edge("c", "j", join=m_of(2, "g")),
        edge("a", "j", on="group_failed(g)"),
    )
    never = {problem.place for problem in check_soundness(definition).problems if problem.kind == "never_runs"}
    assert "b" not in never


def test_a_group_that_tolerates_much_fails_some_time() -> None:
    definition = workflow(
        "a b j k",
        edge("a", "b", group="g", spawn_count=8, tolerated_failures=6),
        edge("b", "j", join=all_of("g")),
        edge("a", "k", on="group_failed(g)"),
    )
    assert verdict(definition) == ("sound", [])


def test_a_join_that_only_a_tolerated_failure_lets_fire_is_undecided() -> None:
    """An `all` fires without an arrival where a member ended by a failure that its group tolerates."""
    definition = workflow(
        "a b j", edge("a", "b", group="g", tolerated_failures=1), edge("b", "j", when="1 == 2", join=all_of("g"))
    )
    found = check_soundness(definition)
    assert ("never_runs", "j") in {(problem.kind, problem.place) for problem in found.undecided}


# --- time -----------------------------------------------------------------------------------------------------------


def test_what_time_does_comes_in_the_order_of_time() -> None:
    """The race is won by the timer that is set for less; that the other one leads nowhere is no finding that is sure."""

    def race(quick: int, slow: int) -> WorkflowDefinition:
        return workflow(
            [node("a"), TimerNode(id="quick", duration_s=quick), TimerNode(id="slow", duration_s=slow), node("j")],
            edge("a", "quick", group="g", race="r"),
            edge("a", "slow", group="g", race="r"),
            edge("quick", "j", join=all_of("g")),
        )

    found = check_soundness(race(5, 10))
    assert found.problems == ()
    assert (found.verdict, {p.place for p in found.undecided}) == ("unknown", {"slow", "g"})
    assert ("left_behind", "slow") in [(p.kind, p.place) for p in check_soundness(race(10, 5)).problems]


# --- conditions of one value ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "middle", "high", "sound"), [
    ("state.n < 3", "state.n >= 3 && state.n < 10", "state.n >= 10", True),
    ("state.n < 3", "state.n >= 3 && state.n < 10", "state.n > 10", False),
    ("state.m == 'a'", "state.m == 'b'", "!(state.m == 'a' || state.m == 'b')", True),
    ("state.m == 'a'", "state.m == 'b'", "state.m != 'a' || state.m != 'b'", True),
])  # fmt: skip
def test_conditions_that_leave_nothing_out(low: str, middle: str, high: str, sound: bool) -> None:
    definition = workflow(
        "a b x y z j",
        edge("a", "b", group="g"),
        *(edge("b", target, when=when) for target, when in zip("xyz", (low, middle, high), strict=True)),
        *(edge(target, "j", join=any_of("g")) for target in "xyz"),
    )
    found = check_soundness(definition)
    assert (found.verdict, "left_behind" in {problem.kind for problem in found.problems}) == (
        ("sound", False) if sound else ("unsound", True)
    )


def test_an_m_of_the_input_is_one_number() -> None:
    """What it asked of one group it asks of the next one, too."""
    definition = workflow(
        "a b c j k",
        edge("a", "b", group="g", spawn_count=2),
        edge("b", "c", group="h", foreach="input.list", when="state.w"),
        edge("c", "j", join=m_of("input.m", "h")),
        edge("j", "k", join=any_of("g", "cancel")),
    )
    kinds = {(problem.kind, problem.place) for problem in check_soundness(definition).problems}
    assert ("left_behind", "b") in kinds
