"""WCP-32, Cancelling Partial Join: a task runs at the m-th of n arrivals, and the branches that are left are withdrawn.

Carried by an `m_of_n` join that cancels the remaining members.
"""

from __future__ import annotations

import pytest

from tests.cases.words import edge, m_of, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(32, "Cancelling Partial Join", "`m_of_n`, the rest cancelled")
DEFINITION = workflow(
    "a b c d join end",
    *(edge("a", branch, group="g") for branch in "bcd"),
    *(edge(branch, "join", join=m_of("input", "g", "cancel")) for branch in "bcd"),
    edge("join", "end"),
)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_mth_arrival_fires_and_the_branches_left_are_withdrawn(m: int) -> None:
    for run in courses(DEFINITION, m, late=True):
        assert run.status == "completed"
        assert run.counts["join"] == run.counts["end"] == 1
        assert len(run.ends("b", "c", "d")) == m
        assert len(run.cancelled) == 3 - m
        assert max(run.ends("b", "c", "d")) < min(run.starts("join"))


def test_an_arrival_in_the_moment_of_the_firing_is_refused() -> None:
    for run in courses(DEFINITION, 2, batched=True, late=True):
        assert run.counts["join"] == run.counts["end"] == 1
        assert (len(run.ends("b", "c", "d")), len(run.cancelled)) == (2, 1)
