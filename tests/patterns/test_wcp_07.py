"""WCP-7, Structured Synchronizing Merge: a task runs once, after exactly those branches that a multi-choice has taken.

Carried by an `all` join: the group is as large as the number of branches that fired (rule R1).
"""

from __future__ import annotations

from itertools import compress, product

import pytest

from tests.cases.words import all_of, edge, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(7, "Structured Synchronizing Merge", "`all`; the group has the branches that fired")
JOIN = all_of("g")
DEFINITION = workflow(
    "choice b c d none join end",
    *(edge("choice", branch, group="g", when=f"input.{branch}") for branch in "bcd"),
    edge("choice", "none", group="g", priority=1),
    *(edge(branch, "join", join=JOIN) for branch in ("b", "c", "d", "none")),
    edge("join", "end"),
)


@pytest.mark.parametrize("holds", product([True, False], repeat=3))
def test_the_merge_waits_for_the_branches_that_were_taken_and_no_other(holds: tuple[bool, ...]) -> None:
    taken = list(compress("bcd", holds)) or ["none"]
    for run in courses(DEFINITION, dict(zip("bcd", holds, strict=True)), batched=True):
        assert run.status == "completed"
        assert run.counts == {"choice": 1, "join": 1, "end": 1} | dict.fromkeys(taken, 1)
        assert all(run.in_order(branch, "join") for branch in taken)


def test_a_choice_within_a_branch_is_waited_for_as_well() -> None:
    definition = workflow(
        "choice b c c1 c2 join",
        edge("choice", "b", group="g", when="input.b"),
        edge("choice", "c", group="g", when="input.c"),
        edge("c", "c1", when="input.c1"),
        edge("c", "c2", when="input.c2"),
        *(edge(branch, "join", join=JOIN) for branch in ("b", "c1", "c2")),
    )
    for inner in product([True, False], repeat=2):
        chosen = list(compress(["c1", "c2"], inner))
        for run in courses(definition, {"b": True, "c": True, "c1": inner[0], "c2": inner[1]}):
            assert run.counts == {"choice": 1, "b": 1, "c": 1, "join": 1} | dict.fromkeys(chosen, 1)
            assert all(run.in_order(branch, "join") for branch in ["b", "c", *chosen])
