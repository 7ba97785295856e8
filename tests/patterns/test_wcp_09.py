"""WCP-9, Structured Discriminator: a task runs at the first arrival; the others are ignored, and when all came it starts anew.

Carried by an `any` join whose remaining members are absorbed (rule R2). It needs no reset: every firing of the split has its
own group instance (rule R3).
"""

from __future__ import annotations

from tests.cases.words import any_of, edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(9, "Structured Discriminator", "`any`, the rest absorbed; an instance per split")
JOIN = any_of("g")
DEFINITION = workflow(
    "a b c d join end",
    *(edge("a", branch, group="g") for branch in "bcd"),
    *(edge(branch, "join", join=JOIN) for branch in "bcd"),
    edge("join", "end"),
)
LOOP = workflow(
    "a b c join end",
    *(edge("a", branch, group="g") for branch in "bc"),
    *(edge(branch, "join", join=JOIN) for branch in "bc"),
    edge("join", "a", max_iterations=1),
    edge("join", "end", priority=1),
    start=("a",),
)


def test_the_first_arrival_fires_and_the_others_change_nothing() -> None:
    late = 0
    for run in courses(DEFINITION):
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", "b", "c", "d", "join", "end"], 1)
        (begin,) = run.starts("join")
        assert sum(end < begin for end in run.ends("b", "c", "d")) == 1
        late += max(run.ends("b", "c", "d")) > max(run.ends("end"))
    assert late, "in some order a branch comes in when everything after the join is done"


def test_arrivals_of_the_same_moment_fire_once() -> None:
    for run in courses(DEFINITION, batched=True):
        assert run.counts == dict.fromkeys(["a", "b", "c", "d", "join", "end"], 1)


def test_each_round_of_a_loop_has_its_own_discriminator() -> None:
    overlaps = 0
    for run in courses(LOOP):
        assert run.status == "completed"
        assert run.counts == {"a": 2, "b": 2, "c": 2, "join": 2, "end": 1}
        for opener in run.tokens("a"):
            (join,) = run.tokens("join", parent=opener)
            own = [run.end(branch) for branch in run.tokens("b", "c", parent=opener)]
            assert sum(end < run.begin(join) for end in own) == 1
        first, second = run.tokens("a")
        overlaps += max(run.end(t) for t in run.tokens("b", "c", parent=first)) > run.end(second)
    assert overlaps, "in some order the late branch of the first round comes in during the second"


def test_a_branch_that_fails_after_the_first_arrival_changes_nothing() -> None:
    definition = workflow(
        ["a", "b", node("c", "fail_always"), "join"],
        *(edge("a", branch, group="g") for branch in "bc"),
        *(edge(branch, "join", join=JOIN) for branch in "bc"),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "b": 1, "join": 1}
        assert run.failed_attempts == {"c": 1}


def test_the_join_fails_when_no_branch_is_left_that_could_arrive() -> None:
    nodes = ["a", node("b", "fail_always"), node("c", "fail_always"), "join"]
    edges = [edge("a", branch, group="g") for branch in "bc"] + [edge(branch, "join", join=JOIN) for branch in "bc"]
    for run in courses(workflow(nodes, *edges)):
        assert run.status == "failed"
        assert run.starts("join") == []
