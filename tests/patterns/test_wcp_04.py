"""WCP-4, Exclusive Choice: of several branches exactly one is taken, chosen by conditions on the data.

Carried by one transition per tier: the first tier that matches wins, and the last has no condition.
"""

from __future__ import annotations

from itertools import product

import pytest

from tests.cases.words import edge, node, workflow
from tests.patterns.harness import Pattern, courses
from wonder_ray.definitions.validation import validate

PATTERN = Pattern(4, "Exclusive Choice", "one transition per tier, the last unconditional")
DEFINITION = workflow(
    "choice b c other",
    edge("choice", "b", when="input.b"),
    edge("choice", "c", when="input.c", priority=1),
    edge("choice", "other", priority=2),
)


@pytest.mark.parametrize(("b", "c"), product([True, False], repeat=2))
def test_the_first_branch_whose_condition_holds_is_taken_alone(b: bool, c: bool) -> None:
    taken = "b" if b else "c" if c else "other"
    for run in courses(DEFINITION, {"b": b, "c": c}):
        assert run.status == "completed"
        assert run.counts == {"choice": 1, taken: 1}


def test_the_choice_is_made_anew_with_the_data_of_each_time() -> None:
    definition = workflow(
        [node("choice", input={"value": "1"}, output={"state.n": "has(state.n) ? state.n + 1 : 1"}), "again", "end"],
        edge("choice", "again", when="state.n < input"),
        edge("choice", "end", priority=1),
        edge("again", "choice"),
        start=("choice",),
    )
    for run in courses(definition, 3):
        assert run.sequence("choice", "again", "end") == ["choice", "again", "choice", "again", "choice", "end"]


def test_without_a_default_a_choice_that_matches_nothing_ends_there_and_the_validator_says_so() -> None:
    definition = workflow("choice b", edge("choice", "b", when="input.b"))
    for run in courses(definition, {"b": False}):
        assert run.status == "completed"
        assert run.counts == {"choice": 1}
    assert any("ends here in silence" in problem.message for problem in validate(definition))


def test_a_condition_that_cannot_be_evaluated_is_no_choice() -> None:
    for run in courses(DEFINITION, {"b": False}):
        assert run.status == "failed"
        assert run.error is not None
        assert (run.error.type, run.error.node_id) == ("ExpressionError", "choice")
        assert run.counts == {"choice": 1}
