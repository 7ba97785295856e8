"""WCP-6, Multi-Choice: of several branches each one is taken whose condition holds.

Carried by conditions on the transitions of one tier; a later tier holds the default.
"""

from __future__ import annotations

from itertools import compress, product

import pytest

from tests.cases.words import edge, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(6, "Multi-Choice", "conditions in one tier, the default in a later one")
DEFINITION = workflow(
    "choice b c d none",
    *(edge("choice", branch, when=f"input.{branch}") for branch in "bcd"),
    edge("choice", "none", priority=1),
)


@pytest.mark.parametrize("holds", product([True, False], repeat=3))
def test_every_branch_whose_condition_holds_is_taken_and_no_other(holds: tuple[bool, ...]) -> None:
    taken = list(compress("bcd", holds)) or ["none"]
    for run in courses(DEFINITION, dict(zip("bcd", holds, strict=True))):
        assert run.status == "completed"
        assert run.counts == {"choice": 1} | dict.fromkeys(taken, 1)
        assert run.at_a_time(*taken) == len(taken)


def test_a_condition_that_cannot_be_evaluated_takes_no_branch_at_all() -> None:
    for run in courses(DEFINITION, {"b": True, "c": True}):
        assert run.status == "failed"
        assert run.error is not None
        assert (run.error.type, run.error.node_id) == ("ExpressionError", "choice")
        assert run.counts == {"choice": 1}
        assert run.tokens("b", "c", "d", "none") == []
