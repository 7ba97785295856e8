"""WCP-5, Simple Merge: branches of which only one is active at a time share what follows them, and nothing waits.

Carried by transitions to the same node, without a join.
"""

from __future__ import annotations

import pytest

from tests.cases.words import edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(5, "Simple Merge", "transitions without a join")
DEFINITION = workflow(
    "choice b c merge end",
    edge("choice", "b", when="input == 'b'"),
    edge("choice", "c", priority=1),
    edge("b", "merge"),
    edge("c", "merge"),
    edge("merge", "end"),
)


@pytest.mark.parametrize("taken", ["b", "c"])
def test_what_follows_runs_once_whichever_branch_was_taken(taken: str) -> None:
    for run in courses(DEFINITION, taken):
        assert run.status == "completed"
        assert run.counts == {"choice": 1, taken: 1, "merge": 1, "end": 1}
        assert run.in_order(taken, "merge")


def test_a_merge_point_may_be_passed_again_later() -> None:
    counter = {"state.n": "has(state.n) ? state.n + 1 : 1"}
    definition = workflow(
        [node("choice", output=counter), "b", "c", "merge", "end"],
        edge("choice", "b", when="state.n % 2 == 1"),
        edge("choice", "c", priority=1),
        edge("b", "merge"),
        edge("c", "merge"),
        edge("merge", "choice", when="state.n < 4"),
        edge("merge", "end", priority=1),
        start=("choice",),
    )
    for run in courses(definition):
        assert run.sequence("b", "c", "merge", "end") == ["b", "merge", "c", "merge", "b", "merge", "c", "merge", "end"]
