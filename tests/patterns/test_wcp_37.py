"""WCP-37, Acyclic Synchronizing Merge: a task waits for the branches that can still arrive, which local facts decide.

Carried by an `all` join: a member that ended elsewhere counts as settled (rule R4). Where the graph is not a split with its join,
a join over `incoming` does the same by counting dead transitions (rule R5).
"""

from __future__ import annotations

from itertools import compress, product

import pytest

from tests.cases.words import all_of, edge, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(37, "Acyclic Synchronizing Merge", "`all`: a branch that ended elsewhere is settled")
JOIN = all_of("g")
DEFINITION = workflow(
    "a b c d elsewhere foo join end",
    *(edge("a", branch, group="g", when=f"input.{branch}") for branch in "bcd"),
    edge("d", "elsewhere", when="input.away"),
    edge("d", "join", priority=1, join=JOIN),
    edge("elsewhere", "foo"),
    *(edge(branch, "join", join=JOIN) for branch in "bc"),
    edge("join", "end"),
)
INCOMING = all_of("incoming")
UNSTRUCTURED = workflow(
    "a b c d x y end",
    *(edge("a", branch, when=f"input.{branch}") for branch in "bcd"),
    edge("b", "x", join=INCOMING),
    edge("c", "x", join=INCOMING),
    edge("c", "y", join=INCOMING),
    edge("d", "y", join=INCOMING),
    edge("x", "end", join=INCOMING),
    edge("y", "end", join=INCOMING),
)
"""No split has a join of its own: c goes to both merges."""


@pytest.mark.parametrize("away", [True, False])
def test_the_merge_waits_for_what_can_still_arrive_and_for_nothing_else(away: bool) -> None:
    for run in courses(DEFINITION, {"b": True, "c": True, "d": True, "away": away}):
        assert run.status == "completed"
        ways = ["elsewhere", "foo"] if away else []
        assert run.counts == dict.fromkeys(["a", "b", "c", "d", "join", "end", *ways], 1)
        assert all(run.in_order(branch, "join") for branch in ("bc" if away else "bcd"))


def test_when_no_branch_arrives_the_merge_is_skipped_and_the_run_ends() -> None:
    for run in courses(DEFINITION, {"b": False, "c": False, "d": True, "away": True}):
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", "d", "elsewhere", "foo"], 1)


@pytest.mark.parametrize("holds", product([True, False], repeat=3))
def test_merges_without_a_split_of_their_own_wait_for_what_is_on_its_way(holds: tuple[bool, ...]) -> None:
    taken = list(compress("bcd", holds))
    merges = [merge for merge, sources in (("x", "bc"), ("y", "cd")) if set(sources) & set(taken)]
    ends = ["end"] if merges else []
    for run in courses(UNSTRUCTURED, dict(zip("bcd", holds, strict=True))):
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", *taken, *merges, *ends], 1)
        assert all(run.in_order(branch, "x") for branch in "bc")
        assert all(run.in_order(branch, "y") for branch in "cd")
        assert all(run.in_order(merge, "end") for merge in merges)
