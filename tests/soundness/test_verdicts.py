"""Definitions that are known to be sound, and known to be unsound in one way each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cases.definitions import all_cases
from tests.cases.words import all_of, any_of, edge, m_of, node, workflow
from wonder_ray.definitions.models import ComputeNode
from wonder_ray.soundness import check_soundness

if TYPE_CHECKING:
    from wonder_ray.definitions.models import Transition, WorkflowDefinition
    from wonder_ray.soundness import Soundness

CASES = all_cases()


def verdict(definition: WorkflowDefinition) -> tuple[str, list[tuple[str, str]]]:
    found = check_soundness(definition)
    assert found.complete
    return found.verdict, [(problem.kind, problem.place) for problem in found.problems]


def example(found: Soundness, kind: str) -> list[str]:
    """The example of the first problem of a kind."""
    return next(list(problem.example) for problem in found.problems if problem.kind == kind)


def split(*joined: Transition, **rest: Any) -> WorkflowDefinition:
    """a -> b, c in a group."""
    return workflow("a b c j", edge("a", "b", group="g", **rest), edge("a", "c", group="g", **rest), *joined)


# --- sound ---------------------------------------------------------------------------------------------------------

SOUND = {
    "a line": workflow("a b c", edge("a", "b"), edge("b", "c")),
    "split and join": split(edge("b", "j", join=all_of("g")), edge("c", "j", join=all_of("g"))),
    "any": split(edge("b", "j", join=any_of("g", "cancel")), edge("c", "j", join=any_of("g", "cancel"))),
    "two of two": split(edge("b", "j", join=m_of(2, "g")), edge("c", "j", join=m_of(2, "g"))),
    "m by the size of the group": split(
        edge("b", "j", join=m_of("group.size - 1", "g")), edge("c", "j", join=m_of("group.size - 1", "g"))
    ),
    "foreach": workflow("a b j", edge("a", "b", foreach="input", group="g"), edge("b", "j", join=all_of("g"))),
    "three of a spawned million": workflow(
        "a b j", edge("a", "b", spawn_count=10**6, group="g"), edge("b", "j", join=m_of(10**6, "g"))
    ),
    "a bounded loop": workflow("a b", edge("a", "a", max_iterations=100), edge("a", "b", priority=1), start=("a",)),
    "an open loop": workflow("a b", edge("a", "a", when="!state.done"), edge("a", "b", when="state.done"), start=("a",)),
    "either way": workflow(
        "a b c j",
        edge("a", "b", when="state.x > 1"),
        edge("a", "c", when="state.x <= 1"),
        *(edge(n, "j", join=all_of("incoming")) for n in "bc"),
    ),
    "asked twice of the input": workflow(
        "a b c d e",
        edge("a", "b", group="g", when="input.deep"),
        edge("a", "c", priority=1),
        edge("b", "d", when="input.deep", join=all_of("g")),
        edge("c", "d", when="!has(input.deep)"),
        edge("c", "e", when="has(input.deep)"),
    ),
    "a failure that is handled": workflow("a b c", edge("a", "b"), edge("a", "c", on="failed")),
    "computed on the way": workflow(
        [node("a"), ComputeNode(id="b"), ComputeNode(id="c"), node("d")], edge("a", "b"), edge("b", "c"), edge("c", "d")
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_definitions_are_called_sound(name: str) -> None:
    assert verdict(SOUND[name]) == ("sound", [])


# --- joins that can wait for ever -------------------------------------------------------------------------------------


def test_a_join_of_more_than_can_come() -> None:
    definition = split(edge("b", "j", join=m_of(3, "g")), edge("c", "j", join=m_of(3, "g")))
    found = check_soundness(definition)
    assert [problem.kind for problem in found.problems] == ["waits_for_ever", "never_completes", *["never_runs"] * 3]
    assert example(found, "waits_for_ever") == [
        "the run starts",
        (
            "'a' completes and goes on to 'b' and 'c'; 'b' is cancelled; 'c' is cancelled; "
            "group 'g' fails (JoinUnsatisfied); the run fails (JoinUnsatisfied)"
        ),
    ]


def test_a_join_that_a_condition_keeps_a_branch_from() -> None:
    definition = split(edge("b", "j", join=m_of(2, "g"), when="state.x"), edge("c", "j", join=m_of(2, "g")))
    found = check_soundness(definition)
    assert [(p.kind, p.place) for p in found.problems] == [("waits_for_ever", "j"), ("left_behind", "b")]
    assert example(found, "waits_for_ever")[1:] == [
        "'a' completes and goes on to 'b' and 'c'",
        "'b' completes (state.x is false); 'c' is cancelled; group 'g' fails (JoinUnsatisfied); the run fails (JoinUnsatisfied)",
    ]
    assert "needs 2 arrivals" in found.problems[0].message


def test_a_join_over_a_list_that_may_be_too_short() -> None:
    definition = workflow("a b j", edge("a", "b", foreach="input", group="g"), edge("b", "j", join=any_of("g")))
    found = check_soundness(definition)
    assert (found.verdict, [p.kind for p in found.problems]) == ("unsound", ["waits_for_ever"])
    assert "'b' (0 branches)" in example(found, "waits_for_ever")[1]


def test_a_join_whose_group_need_not_be_open() -> None:
    definition = workflow(
        "a b c j",
        edge("a", "b", group="g", when="state.x"),
        edge("a", "c", priority=1),
        edge("c", "b"),
        edge("b", "j", join=all_of("g")),
    )
    found = check_soundness(definition)
    assert [(p.kind, p.place) for p in found.problems] == [("waits_for_ever", "b")]
    assert "whose group is not open" in found.problems[0].message
    assert len(example(found, "waits_for_ever")) == 4


def test_a_join_that_fails_after_a_failure_is_no_finding() -> None:
    definition = split(
        edge("b", "j", join=m_of(2, "g")),
        edge("c", "j", join=m_of(2, "g")),
        edge("a", "j", on="group_failed(g)"),
        tolerated_failures=1,
    )
    assert verdict(definition) == ("sound", [])


def test_a_join_that_is_not_met_and_handled_is_no_finding() -> None:
    definition = split(
        edge("b", "j", join=m_of(2, "g"), when="state.x"), edge("c", "j", join=m_of(2, "g")), edge("a", "j", on="group_failed(g)")
    )
    assert verdict(definition) == ("unsound", [("left_behind", "b")])


# --- nodes that can never run -----------------------------------------------------------------------------------------


def test_nodes_behind_what_never_matches() -> None:
    definition = workflow("a b c", edge("a", "b", when="1 == 2"), edge("b", "c"))
    assert verdict(definition) == ("unsound", [("never_runs", "b"), ("never_runs", "c")])


def test_nodes_behind_two_answers_of_the_input() -> None:
    definition = workflow(
        "a b c d",
        edge("a", "b", when="input.mode == 'fast'"),
        edge("a", "d", priority=1),
        edge("b", "c", when="input.mode == 'slow'"),
        edge("b", "d", priority=1),
    )
    assert verdict(definition) == ("unsound", [("never_runs", "c")])


def test_nodes_behind_a_failure_run_when_something_can_fail() -> None:
    handled = workflow("a b c d", edge("a", "b"), edge("b", "c", on="failed[Odd]"), edge("b", "d", on="timed_out"))
    assert verdict(handled) == ("sound", [])
    group = split(edge("b", "j", join=all_of("g")), edge("c", "j", join=all_of("g")), edge("a", "d", on="group_failed(g)[Odd]"))
    group = group.model_copy(update={"nodes": (*group.nodes, node("d"))})
    assert verdict(group) == ("sound", [])


def test_a_definition_that_always_runs_into_its_loop_bound() -> None:
    definition = workflow("a", edge("a", "a", max_iterations=3), start=("a",))
    assert verdict(definition) == ("unsound", [("never_completes", "case")])


# --- tokens left, groups never joined -----------------------------------------------------------------------------------


def test_a_branch_that_ends_before_its_join() -> None:
    definition = split(edge("b", "j", join=all_of("g")))
    found = check_soundness(definition)
    assert [(p.kind, p.place) for p in found.problems] == [("left_behind", "c")]
    assert example(found, "left_behind")[-1] == "'c' completes, and nothing follows"


def test_what_comes_too_late_for_its_join_is_not_left_behind() -> None:
    definition = split(edge("b", "j", join=any_of("g")), edge("c", "j", join=any_of("g")))
    assert verdict(definition) == ("sound", [])


def test_a_group_without_a_join() -> None:
    definition = workflow("a b c", edge("a", "b", group="g"), edge("a", "c", group="g"))
    found = check_soundness(definition)
    assert [(p.kind, p.place) for p in found.problems] == [("never_joined", "g")]
    assert example(found, "never_joined") == ["the run starts", "'a' completes and goes on to 'b' and 'c'"]


def test_a_group_none_of_whose_branches_need_come_to_its_join() -> None:
    definition = split(edge("b", "j", join=all_of("g"), when="state.x"), edge("c", "j", join=all_of("g"), when="state.x"))
    found = check_soundness(definition)
    assert {(p.kind, p.place) for p in found.problems} == {("left_behind", "b"), ("left_behind", "c"), ("never_joined", "g")}
    assert example(found, "never_joined")[-1].endswith("group 'g' ends without its join; the run completes")


# --- examples ---------------------------------------------------------------------------------------------------------


def test_an_example_holds_no_step_that_it_does_not_need() -> None:
    busy = [edge("a", "x0"), *(edge(f"x{i}", f"x{i + 1}") for i in range(5))]
    definition = workflow("a b c j x0 x1 x2 x3 x4 x5", *split(edge("b", "j", join=all_of("g"))).transitions, *busy)
    assert len(example(check_soundness(definition), "left_behind")) == 3


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_is_judged_and_what_runs_in_it_can_run(case: Any) -> None:
    found = check_soundness(case.definition)
    assert found.complete
    never = {problem.place for problem in found.problems if problem.kind == "never_runs"}
    assert never.isdisjoint(node for node, count in case.completed.items() if count)
    if case.status == "completed":
        assert "never_completes" not in {problem.kind for problem in found.problems}
