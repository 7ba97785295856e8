"""WCP-22, Recursion: a task is carried out by a case of the very process that it is part of.

Carried by a `subworkflow` node that names its own workflow; `max_depth` bounds it.
"""

from __future__ import annotations

from math import factorial

import pytest

from tests.cases.words import all_of, edge, node, workflow
from tests.patterns.harness import Course, Pattern, courses
from wonder_ray.definitions.models import ComputeNode, SubworkflowNode, WorkflowDefinition

PATTERN = Pattern(22, "Recursion", "`subworkflow` of itself, `max_depth` deep at most")


def product(max_depth: int = 16, handled: bool = False) -> WorkflowDefinition:
    """n times the product of what is below n."""
    return workflow(
        [
            ComputeNode(id="test"),
            node("base", output={"state.value": "1"}),
            SubworkflowNode(id="below", workflow="product", input={"n": "input.n - 1"}, output={"state.below": "result.value"}),
            node("times", output={"state.value": "input.n * state.below"}),
        ],
        edge("test", "below", when="input.n > 0"),
        edge("test", "base", priority=1),
        edge("below", "times"),
        *([edge("below", "base", on="failed[DepthLimitExceeded]")] if handled else []),
        start=("test",),
        name="product",
        output={"value": "state.value"},
        max_depth=max_depth,
    )


DEFINITION = product()
SUM = workflow(
    [
        ComputeNode(id="test"),
        node("base", output={"state.value": "input.n"}),
        "both",
        SubworkflowNode(id="one", workflow="sum", input={"n": "input.n - 1"}, output={"state.one": "result.value"}),
        SubworkflowNode(id="two", workflow="sum", input={"n": "input.n - 2"}, output={"state.two": "result.value"}),
        node("plus", output={"state.value": "state.one + state.two"}),
    ],
    edge("test", "both", when="input.n > 1"),
    edge("test", "base", priority=1),
    edge("both", "one"),
    edge("both", "two"),
    edge("one", "plus", join=all_of("incoming")),
    edge("two", "plus", join=all_of("incoming")),
    start=("test",),
    name="sum",
    output={"value": "state.value"},
)
"""The Fibonacci numbers: two runs of itself at the same time."""


def line(run: Course) -> list[Course]:
    """A run, its child, the child of that, and so on."""
    (below,) = run.family.values() or (None,)
    return [run, *(line(below) if below is not None else [])]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_each_case_waits_for_the_one_below_it(n: int) -> None:
    for run in courses(DEFINITION, {"n": n}):
        runs = line(run)
        assert [each.status for each in runs] == ["completed"] * (n + 1)
        assert [each.output for each in runs] == [{"value": factorial(n - depth)} for depth in range(n + 1)]
        for each in runs[:-1]:
            assert each.counts == {"test": 1, "below": 1, "times": 1}
        assert runs[-1].counts == {"test": 1, "base": 1}


def test_a_case_may_have_several_of_itself_below_it_at_the_same_time() -> None:
    for run in courses(SUM, {"n": 3}, most=150):
        assert run.status == "completed"
        assert run.output == {"value": 2}
        assert len(run.family) == 2
        assert all(child.status == "completed" for child in run.family.values())


def test_a_recursion_without_an_end_fails_at_the_depth_that_is_allowed() -> None:
    for run in courses(product(max_depth=2), {"n": 9}):
        assert [each.status for each in line(run)] == ["failed"] * 3
        assert [each.error.type for each in line(run) if each.error] == ["DepthLimitExceeded"] * 3


def test_the_depth_may_be_handled_where_it_is_met() -> None:
    for run in courses(product(max_depth=2, handled=True), {"n": 9}):
        assert [each.status for each in line(run)] == ["completed"] * 3
        assert run.output == {"value": 9 * 8}
