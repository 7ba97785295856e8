"""WCP-31, Blocking Partial Join: as the partial join, but arrivals of the next activation wait until this one has reset.

Carried by an `m_of_n` join with `blocking`.
"""

from __future__ import annotations

from tests.cases.words import edge, workflow
from tests.patterns.harness import Pattern, courses
from tests.patterns.reading import check_blocking
from wonder_ray.definitions.models import Join

PATTERN = Pattern(31, "Blocking Partial Join", "`m_of_n` with `blocking`: one instance after the other")
JOIN = Join(over="g", strategy="m_of_n", m=2, blocking=True)
SPLIT = [edge("a", branch, group="g") for branch in "bcd"] + [edge(branch, "join", join=JOIN) for branch in "bcd"]
DEFINITION = workflow(
    "a b c d join end",
    *SPLIT,
    edge("join", "a", max_iterations=1),
    edge("join", "end", priority=1),
    start=("a",),
)


def test_the_second_activation_fires_at_its_mth_arrival_when_the_first_has_reset() -> None:
    blocked = 0
    for run in courses(DEFINITION):
        assert run.status == "completed"
        assert run.counts == {"a": 2, "b": 2, "c": 2, "d": 2, "join": 2, "end": 1}
        blocked += check_blocking(run, "b", "c", "d", needed=2)
    assert blocked


def test_arrivals_of_the_same_moment_fire_each_activation_once() -> None:
    for run in courses(DEFINITION, batched=True):
        assert run.counts == {"a": 2, "b": 2, "c": 2, "d": 2, "join": 2, "end": 1}
        check_blocking(run, "b", "c", "d", needed=2)


def test_activations_side_by_side_fire_in_the_order_in_which_they_began() -> None:
    definition = workflow("s a b c d join", edge("s", "a", spawn_count=2), *SPLIT)
    blocked = 0
    for run in courses(definition, most=500):
        assert run.status == "completed"
        assert run.counts == {"s": 1, "a": 2, "b": 2, "c": 2, "d": 2, "join": 2}
        blocked += check_blocking(run, "b", "c", "d", needed=2)
    assert blocked
