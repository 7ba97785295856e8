"""WCP-28, Blocking Discriminator: as the discriminator, but arrivals of the next activation wait until this one has reset.

Carried by an `any` join with `blocking`: an instance fires only after the earlier instances of its group in the same enclosing
branch are settled, that is, when all their members have arrived or ended.
"""

from __future__ import annotations

from tests.cases.words import all_of, edge, node, workflow
from tests.patterns.harness import Pattern, courses
from tests.patterns.reading import check_blocking
from wonder_ray.definitions.models import Join

PATTERN = Pattern(28, "Blocking Discriminator", "`any` with `blocking`: one instance after the other")
JOIN = Join(over="g", strategy="any", blocking=True)
SPLIT = [edge("a", branch, group="g") for branch in "bc"] + [edge(branch, "join", join=JOIN) for branch in "bc"]
DEFINITION = workflow(
    "a b c join end",
    *SPLIT,
    edge("join", "a", max_iterations=1),
    edge("join", "end", priority=1),
    start=("a",),
)
"""The second activation begins while a branch of the first is still under way."""


def test_the_second_activation_fires_when_the_first_has_reset() -> None:
    blocked = 0
    for run in courses(DEFINITION, batched=True):
        assert run.status == "completed"
        assert run.counts == {"a": 2, "b": 2, "c": 2, "join": 2, "end": 1}
        blocked += check_blocking(run, "b", "c", needed=1)
    assert blocked, "in some order the second activation has an arrival, and must wait"


def test_activations_that_begin_side_by_side_fire_one_after_the_other() -> None:
    definition = workflow("s a b c join", edge("s", "a", spawn_count=2), *SPLIT)
    blocked = 0
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"s": 1, "a": 2, "b": 2, "c": 2, "join": 2}
        blocked += check_blocking(run, "b", "c", needed=1)
    assert blocked


def test_activations_in_other_branches_do_not_wait() -> None:
    definition = workflow(
        "s a b c join end",
        edge("s", "a", spawn_count=2, group="branches"),
        *SPLIT,
        edge("join", "end", join=all_of("branches")),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"s": 1, "a": 2, "b": 2, "c": 2, "join": 2, "end": 1}
        for opener in run.tokens("a"):
            first = min(run.end(branch) for branch in run.tokens("b", "c", parent=opener))
            (join,) = run.tokens("join", parent=opener)
            assert run.turn_at(run.begin(join)) == run.turn_at(first)


def test_an_activation_that_fails_and_is_handled_does_not_block_the_next_for_ever() -> None:
    definition = workflow(
        ["s", "a", node("bad", "fail_always"), "b", "join", "handled"],
        edge("s", "a", spawn_count=2),
        edge("a", "bad", group="g", when="index == 0"),
        edge("a", "b", group="g", when="index == 1"),
        edge("bad", "join", join=JOIN),
        edge("b", "join", join=JOIN),
        edge("a", "handled", on="group_failed(g)"),
        start=("s",),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"s": 1, "a": 2, "b": 1, "join": 1, "handled": 1}


def test_within_a_branch_they_are_blocked_as_well() -> None:
    definition = workflow(
        "s a b c join end done",
        edge("s", "a", spawn_count=1, group="branches"),
        *SPLIT,
        edge("join", "a", max_iterations=1),
        edge("join", "end", priority=1),
        edge("end", "done", join=all_of("branches")),
        start=("s",),
    )
    blocked = 0
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"s": 1, "a": 2, "b": 2, "c": 2, "join": 2, "end": 1, "done": 1}
        blocked += check_blocking(run, "b", "c", needed=1)
    assert blocked
