"""WCP-42, Thread Split: at one place of a branch a given number of threads begins; each goes on in the same branch.

Carried by `spawn_count`. Without a group the threads share their branch, its state included.
"""

from __future__ import annotations

import pytest

from tests.cases.words import edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(42, "Thread Split", "`spawn_count`")
DEFINITION = workflow(
    "a thread after",
    edge("a", "thread", spawn_count="input"),
    edge("thread", "after"),
)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_the_given_number_of_threads_goes_on_and_each_does_what_follows(threads: int) -> None:
    for run in courses(DEFINITION, threads):
        assert run.status == "completed"
        assert run.counts == {"a": 1} | ({"thread": threads, "after": threads} if threads else {})
        assert run.at_a_time("thread") == threads
        assert all(len(run.tokens("after", parent=thread)) == 1 for thread in run.tokens("thread"))


def test_threads_share_the_state_of_their_branch() -> None:
    count = {"state.n": "has(state.n) ? state.n + 1 : 1"}
    definition = workflow(["a", node("thread", output=count)], edge("a", "thread", spawn_count=3), output={"n": "state.n"})
    for run in courses(definition, batched=True):
        assert run.output == {"n": 3}


@pytest.mark.parametrize("count", [-1, "two", 1.5, None])
def test_what_is_no_number_of_threads_fails_the_task_before_any_thread(count: object) -> None:
    for run in courses(workflow("a thread", edge("a", "thread", spawn_count="input")), count):
        assert run.status == "failed"
        assert run.error is not None
        assert (run.error.type, run.error.node_id) == ("ExpressionError", "a")
        assert run.tokens("thread") == []
