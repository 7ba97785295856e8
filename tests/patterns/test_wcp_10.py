"""WCP-10, Arbitrary Cycles: a loop may be entered, and left, at more than one place.

Carried by transitions that lead back; the validator asks for a bound or a condition, not for structure.
"""

from __future__ import annotations

from itertools import product

import pytest

from tests.cases.words import edge, node, workflow
from tests.patterns.harness import Pattern, courses
from wonder_ray.definitions.models import ComputeNode
from wonder_ray.definitions.validation import validate

PATTERN = Pattern(10, "Arbitrary Cycles", "transitions back; loops need no structure")
ON = {"state.at": "state.at + 1"}
NEXT = "input[state.at]"
DEFINITION = workflow(
    [ComputeNode(id="start", output={"state.at": "0"}), node("p", output=ON), node("q", output=ON), "x", "y"],
    edge("start", "p", when=f"{NEXT} == 'p'"),
    edge("start", "q", when=f"{NEXT} == 'q'", priority=1),
    edge("p", "q", when=f"{NEXT} == 'q'"),
    edge("p", "x", when=f"{NEXT} == 'x'", priority=1),
    edge("q", "p", when=f"{NEXT} == 'p'"),
    edge("q", "y", when=f"{NEXT} == 'y'", priority=1),
)
"""Entered at p or at q, left from p to x or from q to y."""
WAYS = [
    [*(first if n % 2 == 0 else other for n in range(length)), {"p": "x", "q": "y"}[first if length % 2 else other]]
    for (first, other), length in product([("p", "q"), ("q", "p")], range(1, 6))
]


@pytest.mark.parametrize("way", WAYS, ids="".join)
def test_the_run_takes_any_way_through_the_cycle(way: list[str]) -> None:
    for run in courses(DEFINITION, way):
        assert run.status == "completed"
        assert run.sequence("p", "q", "x", "y") == way


def test_two_threads_may_be_in_the_cycle_at_the_same_time() -> None:
    definition = workflow(
        "start p q x",
        edge("start", "p"),
        edge("start", "q"),
        edge("p", "q", max_iterations=2),
        edge("p", "x", priority=1),
        edge("q", "p", max_iterations=2),
        edge("q", "x", priority=1),
        start=("start",),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"start": 1, "p": 3, "q": 3, "x": 2}


def test_a_cycle_that_nothing_ends_is_refused_and_a_bound_that_is_used_up_fails() -> None:
    endless = workflow("a b", edge("a", "b"), edge("b", "a"), start=("a",))
    assert any("never ends" in problem.message for problem in validate(endless))
    bounded = workflow("a b", edge("a", "b"), edge("b", "a", max_iterations=2), start=("a",))
    for run in courses(bounded):
        assert run.status == "failed"
        assert run.error is not None
        assert run.error.type == "LoopBoundExceeded"
        assert run.counts == {"a": 3, "b": 3}
