"""WCP-41, Thread Merge: a given number of threads of the same branch becomes one.

Carried by an `all` join over the group of a `spawn_count`.
"""

from __future__ import annotations

import pytest

from tests.cases.words import all_of, append, edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(41, "Thread Merge", "`all` over a `spawn_count` group")
DEFINITION = workflow(
    "a thread merge after",
    edge("a", "thread", spawn_count="input", group="threads"),
    edge("thread", "merge", join=all_of("threads")),
    edge("merge", "after"),
)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_all_threads_become_one(threads: int) -> None:
    for run in courses(DEFINITION, threads, batched=threads < 4):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "thread": threads, "merge": 1, "after": 1}
        assert run.in_order("thread", "merge")


def test_threads_of_one_split_do_not_merge_with_those_of_another() -> None:
    members = [
        node("p", input={"value": "index"}, output={"state.who": "result"}),
        node("thread", input={"value": "state.who"}),
    ]
    definition = workflow(
        ["a", *members, "merge", "end"],
        edge("a", "p", spawn_count=2, group="outer"),
        edge("p", "thread", spawn_count=2, group="threads"),
        edge("thread", "merge", join=all_of("threads", append("state.met"))),
        edge("merge", "end", join=all_of("outer", append("state.all", "state.met"))),
        output={"all": "state.all"},
    )
    for run in courses(definition):
        assert run.counts == {"a": 1, "p": 2, "thread": 4, "merge": 2, "end": 1}
        assert run.output == {"all": [[0, 0], [1, 1]]}


def test_a_thread_that_ends_on_its_way_is_not_waited_for() -> None:
    definition = workflow(
        "a thread away merge",
        edge("a", "thread", spawn_count=3, group="threads"),
        edge("thread", "away", when="index == 1"),
        edge("thread", "merge", priority=1, join=all_of("threads")),
    )
    for run in courses(definition):
        assert run.status == "completed"
        assert run.counts == {"a": 1, "thread": 3, "away": 1, "merge": 1}
