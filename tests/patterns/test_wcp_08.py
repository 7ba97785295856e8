"""WCP-8, Multi-Merge: what follows a merge runs once for every branch that arrives, without waiting.

Carried by transitions without a join from branches that run at the same time.
"""

from __future__ import annotations

from tests.cases.words import edge, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(8, "Multi-Merge", "no join: every arrival goes on")
DEFINITION = workflow(
    "a b c d merge end",
    *(edge("a", branch) for branch in "bcd"),
    *(edge(branch, "merge") for branch in "bcd"),
    edge("merge", "end"),
)


def test_what_follows_runs_once_per_arrival() -> None:
    together = set()
    for run in courses(DEFINITION):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "b": 1, "c": 1, "d": 1, "merge": 3, "end": 3}
        for branch in run.tokens("b", "c", "d"):
            (merge,) = run.tokens("merge", parent=branch)
            assert run.end(branch) < run.begin(merge)
        together.add(run.at_a_time("merge"))
    assert together == {1, 2, 3}, "arrivals do not wait for each other, and may overlap"


def test_arrivals_of_the_same_moment_do_not_become_one() -> None:
    for run in courses(DEFINITION, batched=True, crashes=False):
        assert run.counts["merge"] == run.counts["end"] == 3
