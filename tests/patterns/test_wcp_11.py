"""WCP-11, Implicit Termination: a case ends when nothing is left to do, with no end node, and only if nothing is stuck.

Carried by the end of the last live token; there is nothing in the definition that says it.
"""

from __future__ import annotations

from tests.cases.words import edge, m_of, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(11, "Implicit Termination", "the run ends with its last live token")
DEFINITION = workflow(
    "a b c c2 d",
    edge("a", "b"),
    edge("a", "c"),
    edge("c", "c2"),
    edge("a", "d", when="input"),
)


def test_the_run_ends_with_whatever_ends_last() -> None:
    for value in (True, False):
        last = set()
        for run in courses(DEFINITION, value):
            assert run.status == "completed"
            assert run.counts == dict.fromkeys(["a", "b", "c", "c2", *(["d"] if value else [])], 1)
            assert run.rows[-1]["event_type"] == "workflow.completed"
            last.add(run.moves[-1])
        assert last == ({"b", "c2", "d"} if value else {"b", "c2"})


def test_what_can_never_go_on_is_a_failure_and_no_silent_end() -> None:
    join = m_of(2, "g")
    definition = workflow(
        "a b c x join",
        edge("a", "b", group="g"),
        edge("a", "c", group="g"),
        edge("b", "join", join=join),
        edge("c", "join", when="input", join=join),
        edge("c", "x", priority=1),
    )
    for run in courses(definition, False):
        assert run.status == "failed"
        assert run.error is not None
        assert run.error.type == "JoinUnsatisfied"
    for run in courses(definition, True):
        assert run.status == "completed"
