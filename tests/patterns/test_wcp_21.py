"""WCP-21, Structured Loop: a part with one entry and one exit runs again and again while, or until, a condition holds.

Carried by a transition back with a condition; `max_iterations` bounds it whatever the condition says.
"""

from __future__ import annotations

import pytest

from tests.cases.words import all_of, edge, node, workflow
from tests.patterns.harness import Pattern, courses
from wonder_ray.definitions.models import ComputeNode

PATTERN = Pattern(21, "Structured Loop", "a transition back with a condition and `max_iterations`")
COUNT = {"state.n": "has(state.n) ? state.n + 1 : 1"}
WHILE = workflow(
    [ComputeNode(id="test"), node("body", output=COUNT), "end"],
    edge("test", "body", when="(has(state.n) ? state.n : 0) < input"),
    edge("test", "end", priority=1),
    edge("body", "test"),
    start=("test",),
)
"""The condition stands before the body."""
REPEAT = workflow(
    [node("body", output=COUNT), "end"],
    edge("body", "body", when="state.n < input"),
    edge("body", "end", priority=1),
    start=("body",),
)
"""The condition stands after the body."""
DEFINITION = WHILE


@pytest.mark.parametrize("times", range(4))
def test_a_while_loop_runs_as_often_as_its_condition_holds_and_perhaps_never(times: int) -> None:
    for run in courses(WHILE, times):
        assert run.status == "completed"
        assert run.sequence("body", "end") == ["body"] * times + ["end"]


@pytest.mark.parametrize("times", range(4))
def test_a_repeat_loop_runs_at_least_once(times: int) -> None:
    for run in courses(REPEAT, times):
        assert run.status == "completed"
        assert run.sequence("body", "end") == ["body"] * max(1, times) + ["end"]


def test_a_bound_ends_the_loop_when_its_condition_does_not() -> None:
    definition = workflow(
        "body end", edge("body", "body", when="true", max_iterations=3), edge("body", "end", priority=1), start=("body",)
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"body": 4, "end": 1}


def test_the_bound_counts_for_each_branch_of_its_own() -> None:
    definition = workflow(
        "a body end join",
        edge("a", "body", spawn_count=2, group="g"),
        edge("body", "body", max_iterations=2),
        edge("body", "end", priority=1),
        edge("end", "join", join=all_of("g")),
        start=("a",),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "body": 6, "end": 2, "join": 1}
