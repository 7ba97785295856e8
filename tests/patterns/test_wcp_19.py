"""WCP-19, Cancel Task: one task, enabled or running, is withdrawn, and what would follow it does not run.

Carried by `cancel` on a transition, which names the node whose tokens are withdrawn when it fires.
"""

from __future__ import annotations

import pytest

from tests.cases.words import all_of, edge, node, workflow
from tests.patterns.harness import Pattern, courses
from wonder_ray.definitions.models import GateNode, Retry, SignalNode, TimerNode

PATTERN = Pattern(19, "Cancel Task", "`cancel` names a node: its tokens are withdrawn")
DEFINITION = workflow(
    "a task after stop end",
    edge("a", "task"),
    edge("task", "after"),
    edge("a", "stop"),
    edge("stop", "end", cancel=("task",)),
)


def test_the_task_is_withdrawn_if_it_has_not_completed() -> None:
    for run in courses(DEFINITION, late=True, batched=True):
        assert run.status == "completed"
        if run.moves.index("stop") < (run.moves.index("task") if "task" in run.moves else 99):
            assert run.counts == {"a": 1, "stop": 1, "end": 1}
            assert run.cancelled == ["task"]
        else:
            assert run.counts == dict.fromkeys(["a", "task", "after", "stop", "end"], 1)
            assert run.cancelled == []


@pytest.mark.parametrize(
    "task",
    [
        GateNode(id="task"),
        SignalNode(id="task"),
        TimerNode(id="task", duration_s=3600),
        node("task", "fail_always", retry=(Retry(max_attempts=2, backoff_s=3600, max_backoff_s=3600),)),
        node("task", guard="false"),
        node("task", concurrency_key="'k'"),
    ],
    ids=["gate", "signal", "timer", "retry", "guard", "key"],
)
def test_a_task_that_waits_for_something_is_withdrawn_as_well(task: object) -> None:
    definition = workflow(
        ["a", node("first", concurrency_key="'k'"), task, "after", "stop", "end"],
        edge("a", "first"),
        edge("a", "task"),
        edge("task", "after"),
        edge("task", "after", on="failed"),
        edge("a", "stop"),
        edge("stop", "end", cancel=("task",)),
        start=("a",),
    )
    withdrawn = 0
    for run in courses(definition, late=True):
        assert run.status == "completed"
        assert run.completed["after"] + len(run.cancelled) == 1
        withdrawn += run.cancelled == ["task"]
    assert withdrawn


def test_what_handles_the_withdrawal_runs_instead() -> None:
    definition = workflow(
        "a task after tidy stop end",
        edge("a", "task"),
        edge("task", "after"),
        edge("task", "tidy", on="cancelled"),
        edge("a", "stop"),
        edge("stop", "end", cancel=("task",)),
    )
    for run in courses(definition, late=True):
        assert run.status == "completed"
        assert run.completed["after"] + run.completed["tidy"] == 1
        assert run.completed["tidy"] == len(run.cancelled)


def test_a_join_does_not_wait_for_a_task_that_was_withdrawn() -> None:
    join = all_of("g")
    definition = workflow(
        "a b task join stop end",
        edge("a", "b", group="g"),
        edge("a", "task", group="g"),
        edge("a", "stop", group="g"),
        edge("b", "join", join=join),
        edge("task", "join", join=join),
        edge("stop", "end", cancel=("task",)),
    )
    for run in courses(definition, late=True):
        assert run.status == "completed"
        assert run.completed["join"] == 1
        assert run.completed["task"] + len(run.cancelled) == 1


def test_tasks_of_the_same_name_in_other_branches_are_not_touched() -> None:
    definition = workflow(
        "a p task stop after end join",
        edge("a", "p", spawn_count=2, group="branches"),
        edge("p", "task"),
        edge("p", "stop", when="index == 0"),
        edge("task", "join", join=all_of("branches")),
        edge("stop", "after", cancel=("task",)),
        edge("after", "join", join=all_of("branches")),
        edge("join", "end"),
    )
    for run in courses(definition, late=True):
        assert run.status == "completed"
        assert run.completed["join"] == 1
        assert run.completed["task"] == 2 - len(run.cancelled)
        other = next(token for token in run.tokens("task") if token.index == 1)
        assert other.status == "completed"


def test_a_task_that_still_waits_for_its_branches_is_not_there_to_be_withdrawn() -> None:
    join = all_of("g")
    definition = workflow(
        "a b c join after stop end",
        *(edge("a", branch, group="g") for branch in "bc"),
        *(edge(branch, "join", join=join) for branch in "bc"),
        edge("join", "after"),
        edge("a", "stop"),
        edge("stop", "end", cancel=("join",)),
    )
    ways = set()
    for run in courses(definition, late=True):
        stopped = run.ends("stop")[0]
        running = run.starts("join")[0] < stopped < max(run.ends("join"), default=stopped + 1)
        assert run.status == "completed"
        assert run.cancelled == (["join"] if running else [])
        assert run.completed["after"] == int(not running)
        ways.add(running)
    assert ways == {True, False}
