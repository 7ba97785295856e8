"""WCP-2, Parallel Split: after one task, several branches run at the same time, each on its own.

Carried by several transitions of one tier (equal `priority`): all of them fire.
"""

from __future__ import annotations

from itertools import permutations

from tests.cases.words import edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(2, "Parallel Split", "several transitions in one tier")
BRANCHES = ("b", "c", "d")
DEFINITION = workflow("a b c d", *(edge("a", branch) for branch in BRANCHES))


def test_all_branches_run_at_the_same_time_and_end_in_any_order() -> None:
    seen = set()
    for run in courses(DEFINITION):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "b": 1, "c": 1, "d": 1}
        assert run.at_a_time(*BRANCHES) == 3
        assert all(run.in_order("a", branch) for branch in BRANCHES)
        seen.add(tuple(sorted(BRANCHES, key=run.ends)))
    assert seen == set(permutations(BRANCHES))


def test_a_branch_goes_on_while_another_has_not_ended() -> None:
    definition = workflow("a b b2 c c2", edge("a", "b"), edge("a", "c"), edge("b", "b2"), edge("c", "c2"))
    ahead = {(run.ends("b2") < run.ends("c"), run.ends("c2") < run.ends("b")) for run in courses(definition)}
    assert {(True, False), (False, True), (False, False)} == ahead


def test_only_the_first_tier_that_matches_is_split() -> None:
    tiers = (edge("a", "b"), edge("a", "c"), edge("a", "d", priority=1))
    for run in courses(workflow("a b c d", *tiers)):
        assert run.counts == {"a": 1, "b": 1, "c": 1}


def test_the_failure_of_one_branch_that_nothing_handles_ends_them_all() -> None:
    definition = workflow(["a", node("b", "fail_always"), "c"], edge("a", "b"), edge("a", "c"))
    for run in courses(definition, late=True):
        assert run.status == "failed"
        assert run.cancelled == ([] if run.completed["c"] else ["c"])
