"""WCP-1, Sequence: a task starts once the task before it has completed, and not otherwise.

Carried by one unconditional transition from each task to the next.
"""

from __future__ import annotations

from tests.cases.words import edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(1, "Sequence", "one unconditional transition")
DEFINITION = workflow("a b c", edge("a", "b"), edge("b", "c"))


def test_each_task_follows_the_one_before() -> None:
    for run in courses(DEFINITION):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "b": 1, "c": 1}
        assert run.in_order("a", "b")
        assert run.in_order("b", "c")


def test_nothing_follows_a_task_that_fails() -> None:
    definition = workflow(["a", node("b", "fail_always"), "c"], edge("a", "b"), edge("b", "c"))
    for run in courses(definition):
        assert run.status == "failed"
        assert run.counts == {"a": 1}
        assert run.starts("c") == []


def test_threads_in_one_sequence_do_not_wait_for_each_other() -> None:
    definition = workflow("s a b c", edge("s", "a", spawn_count=2), edge("a", "b"), edge("b", "c"))
    overtaken = 0
    for run in courses(definition):
        assert run.counts == {"s": 1, "a": 2, "b": 2, "c": 2}
        for thread in run.tokens("a"):
            (b,) = run.tokens("b", parent=thread)
            (c,) = run.tokens("c", parent=b)
            assert run.end(thread) < run.begin(b) < run.end(b) < run.begin(c)
        overtaken += min(run.ends("c")) < max(run.ends("a"))
    assert overtaken, "in some order one thread is through before the other has begun"
