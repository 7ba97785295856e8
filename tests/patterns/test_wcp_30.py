"""WCP-30, Structured Partial Join: a task runs at the m-th of n arrivals; the rest is ignored, and after all n it starts anew.

Carried by an `m_of_n` join whose remaining members are absorbed; every firing of the split has its own instance.
"""

from __future__ import annotations

import pytest

from tests.cases.words import edge, m_of, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(30, "Structured Partial Join", "`m_of_n`, the rest absorbed")
DEFINITION = workflow(
    "a b c d join end",
    *(edge("a", branch, group="g") for branch in "bcd"),
    *(edge(branch, "join", join=m_of("input.m", "g")) for branch in "bcd"),
    edge("join", "end"),
)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_join_runs_at_the_mth_arrival_and_the_rest_is_ignored(m: int) -> None:
    for run in courses(DEFINITION, {"m": m}):
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", "b", "c", "d", "join", "end"], 1)
        (begin,) = run.starts("join")
        assert sum(end < begin for end in run.ends("b", "c", "d")) == m


def test_the_mth_and_the_next_arrival_in_the_same_moment_fire_once() -> None:
    for run in courses(DEFINITION, {"m": 2}, batched=True):
        assert run.counts == dict.fromkeys(["a", "b", "c", "d", "join", "end"], 1)


def test_more_than_can_arrive_is_a_failure_and_no_wait() -> None:
    for run in courses(DEFINITION, {"m": 4}):
        assert run.status == "failed"
        assert run.error is not None
        assert run.error.type == "JoinUnsatisfied"
        assert run.starts("join") == []


def test_branches_that_fail_are_tolerated_as_long_as_m_can_arrive() -> None:
    nodes = ["a", node("b", "fail_always"), "c", "d", "join"]
    for m, status in ((2, "completed"), (3, "failed")):
        definition = workflow(
            nodes,
            *(edge("a", branch, group="g") for branch in "bcd"),
            *(edge(branch, "join", join=m_of(m, "g")) for branch in "bcd"),
        )
        for run in courses(definition):
            assert run.status == status
            assert len(run.starts("join")) == (status == "completed")


def test_a_failure_that_is_not_tolerated_counts_before_the_join_has_fired_and_not_after() -> None:
    definition = workflow(
        ["a", node("b", "fail_always"), "c", "d", "join"],
        *(edge("a", branch, group="g", tolerated_failures=0) for branch in "bcd"),
        *(edge(branch, "join", join=m_of(2, "g")) for branch in "bcd"),
    )
    for run in courses(definition, late=True):
        after = (
            run.moves.index("b") > max(run.moves.index("c"), run.moves.index("d"))
            if "d" in run.moves and "c" in run.moves
            else False
        )
        assert run.status == ("completed" if after else "failed")


def test_each_round_of_a_loop_counts_its_own_arrivals() -> None:
    definition = workflow(
        "a b c d join end",
        *(edge("a", branch, group="g") for branch in "bcd"),
        *(edge(branch, "join", join=m_of(2, "g")) for branch in "bcd"),
        edge("join", "a", max_iterations=1),
        edge("join", "end", priority=1),
        start=("a",),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"a": 2, "b": 2, "c": 2, "d": 2, "join": 2, "end": 1}
        for opener in run.tokens("a"):
            (join,) = run.tokens("join", parent=opener)
            own = [run.end(branch) for branch in run.tokens("b", "c", "d", parent=opener)]
            assert sum(end < run.begin(join) for end in own) == 2
