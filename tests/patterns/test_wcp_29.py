"""WCP-29, Cancelling Discriminator: a task runs at the first arrival, and the other branches are withdrawn.

Carried by an `any` join that cancels the remaining members.
"""

from __future__ import annotations

from tests.cases.words import any_of, edge, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(29, "Cancelling Discriminator", "`any`, the rest cancelled")
JOIN = any_of("g", "cancel")
DEFINITION = workflow(
    "a b b2 c join end",
    *(edge("a", branch, group="g") for branch in "bc"),
    edge("b", "b2"),
    *(edge(branch, "join", join=JOIN) for branch in ("b2", "c")),
    edge("join", "end"),
)


def test_the_first_arrival_fires_and_what_else_runs_is_withdrawn() -> None:
    withdrawn = set()
    for run in courses(DEFINITION, late=True):
        assert run.status == "completed"
        (begin,) = run.starts("join")
        assert sum(end < begin for end in run.ends("b2", "c")) == 1
        assert run.counts["join"] == run.counts["end"] == 1
        assert len(run.cancelled) == 1
        assert max(run.ends("b", "b2", "c")) < begin, "nothing of the branches completes after the join has fired"
        withdrawn.update(run.cancelled)
    assert withdrawn == {"b", "b2", "c"}


def test_of_arrivals_of_the_same_moment_one_fires_and_the_other_is_refused() -> None:
    met = 0
    for run in courses(DEFINITION, batched=True, late=True):
        assert run.counts["join"] == run.counts["end"] == 1
        assert len(run.cancelled) == 1
        met += {"b2", "c"} in run.meetings
    assert met


def test_each_round_of_a_loop_withdraws_its_own_branches_only() -> None:
    definition = workflow(
        "a b c join end",
        *(edge("a", branch, group="g") for branch in "bc"),
        *(edge(branch, "join", join=JOIN) for branch in "bc"),
        edge("join", "a", max_iterations=1),
        edge("join", "end", priority=1),
        start=("a",),
    )
    for run in courses(definition, late=True):
        assert run.status == "completed"
        assert run.counts["a"] == run.counts["join"] == 2
        assert run.counts["end"] == 1
        for opener in run.tokens("a"):
            statuses = sorted(str(token.status) for token in run.tokens("b", "c", parent=opener))
            assert statuses == ["cancelled", "completed"]


def test_what_a_branch_has_split_into_is_withdrawn_with_it() -> None:
    definition = workflow(
        "a b c deep join",
        *(edge("a", branch, group="g") for branch in "bc"),
        edge("c", "deep", spawn_count=2, group="inner"),
        edge("b", "join", join=JOIN),
        edge("c", "join", on="failed", join=JOIN),
    )
    for run in courses(definition, late=True):
        assert run.status == "completed"
        assert run.counts["join"] == 1
        assert run.counts.get("deep", 0) + run.cancelled.count("deep") == len(run.tokens("deep"))
