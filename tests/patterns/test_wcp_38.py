"""WCP-38, General Synchronizing Merge: a task waits until nothing more can arrive, even where cycles lead to it.

Carried by an `all` join, over a group (it fires when no live member is elsewhere) or over `incoming` (it fires when no live token
can reach it any more without passing through it: reachability is searched within cycles, rule R5).
"""

from __future__ import annotations

import pytest

from tests.cases.words import all_of, edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(38, "General Synchronizing Merge", "`all` fires when nothing can still arrive, cycles included")
INCOMING = all_of("incoming")
COUNT = {"state.n": "has(state.n) ? state.n + 1 : 1"}
DEFINITION = workflow(
    ["a", "b", node("c", output=COUNT), "away", "join", "end"],
    edge("a", "b"),
    edge("a", "c"),
    edge("c", "c", when="state.n < input.loops"),
    edge("c", "away", when="input.away", priority=1),
    edge("c", "join", priority=2, join=INCOMING),
    edge("b", "join", join=INCOMING),
    edge("join", "end"),
    start=("a",),
)


@pytest.mark.parametrize("away", [True, False])
@pytest.mark.parametrize("loops", [1, 3])
def test_the_merge_waits_for_a_branch_that_loops_until_it_arrives_or_ends(loops: int, away: bool) -> None:
    for run in courses(DEFINITION, {"loops": loops, "away": away}):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "b": 1, "c": loops, "join": 1, "end": 1} | ({"away": 1} if away else {})
        assert run.in_order("b", "join")
        assert run.in_order("c", "join")


def test_a_merge_within_a_cycle_fires_once_per_round() -> None:
    definition = workflow(
        "a b c join end",
        edge("a", "b"),
        edge("a", "c"),
        edge("b", "join", join=INCOMING),
        edge("c", "c", max_iterations=1),
        edge("c", "join", priority=1, join=INCOMING),
        edge("join", "a", max_iterations=1),
        edge("join", "end", priority=1),
        start=("a",),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"a": 2, "b": 2, "c": 3, "join": 2, "end": 1}
        assert run.keeps_step("b", "join")


def test_a_member_of_a_group_may_loop_before_it_arrives_or_ends_elsewhere() -> None:
    join = all_of("g")
    definition = workflow(
        ["a", "b", node("c", output=COUNT), "d", "away", "join", "end"],
        edge("a", "b", group="g"),
        edge("a", "c", group="g"),
        edge("c", "d", when="state.n < input.loops"),
        edge("d", "c"),
        edge("c", "away", when="input.away", priority=1),
        edge("c", "join", priority=2, join=join),
        edge("b", "join", join=join),
        edge("join", "end"),
        start=("a",),
    )
    for away in (True, False):
        for run in courses(definition, {"loops": 3, "away": away}):
            assert run.status == "completed"
            assert run.counts == {"a": 1, "b": 1, "c": 3, "d": 2, "join": 1, "end": 1} | ({"away": 1} if away else {})
            assert run.in_order("c", "join")


def test_merges_that_wait_for_each_other_do_not_block_for_ever() -> None:
    definition = workflow(
        "a x y end",
        edge("a", "x", join=INCOMING),
        edge("a", "y", join=INCOMING),
        edge("x", "y", max_iterations=1, join=INCOMING),
        edge("y", "x", max_iterations=1, join=INCOMING),
        edge("x", "end", priority=1),
        edge("y", "end", priority=1),
        start=("a",),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts["a"] == 1
        assert min(run.counts["x"], run.counts["y"], run.counts["end"]) >= 1
