"""WCP-17, Interleaved Parallel Routing: tasks in partial order, in any order that keeps to it, but never two at a time.

Carried by branches that share a `concurrency_key`: of the tokens with one key, one runs at a time.
"""

from __future__ import annotations

from itertools import permutations

from tests.cases.words import all_of, any_of, edge, node, workflow
from tests.patterns.harness import Pattern, courses

PATTERN = Pattern(17, "Interleaved Parallel Routing", "a `concurrency_key` that branches share")
KEY = "'desk'"
TASKS = ("p1", "p2", "q1", "q2")
DEFINITION = workflow(
    ["a", "x", "y", *(node(task, concurrency_key=KEY) for task in TASKS), "end"],
    edge("a", "x", group="g"),
    edge("a", "y", group="g"),
    edge("x", "p1"),
    edge("p1", "p2"),
    edge("y", "q1"),
    edge("q1", "q2"),
    edge("p2", "end", join=all_of("g")),
    edge("q2", "end", join=all_of("g")),
)
KEEPING = {
    order for order in permutations(TASKS) if order.index("p1") < order.index("p2") and order.index("q1") < order.index("q2")
}


def test_the_tasks_run_one_at_a_time_in_an_order_that_keeps_to_the_partial_one() -> None:
    seen = set()
    for run in courses(DEFINITION, batched=True):
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", "x", "y", *TASKS, "end"], 1)
        assert run.at_a_time(*TASKS) == 1
        assert run.in_order("p1", "p2")
        assert run.in_order("q1", "q2")
        seen.add(tuple(run.sequence(*TASKS)))
    assert seen <= KEEPING
    assert {order[0] for order in seen} == {"p1", "q1"}
    assert len(seen) > 2, "what comes first is decided by what is ready first"


def test_tasks_without_the_key_are_not_held_back() -> None:
    overlaps = {run.at_a_time("x", *TASKS) for run in courses(DEFINITION, crashes=False)}
    assert overlaps == {1, 2}


def test_a_task_that_is_withdrawn_or_fails_makes_way_for_the_next() -> None:
    definition = workflow(
        [
            "a",
            node("p", concurrency_key=KEY),
            node("q", "fail_always", concurrency_key=KEY),
            node("r", concurrency_key=KEY),
            node("s", concurrency_key=KEY),
            "stop",
            "end",
        ],
        edge("a", "p", group="g"),
        edge("a", "stop", group="g"),
        edge("a", "q"),
        edge("q", "r", on="failed"),
        edge("a", "s"),
        edge("p", "end", join=any_of("g", "cancel")),
        edge("stop", "end", join=any_of("g", "cancel")),
        start=("a",),
    )
    withdrawn = 0
    for run in courses(definition, late=True):
        assert run.status == "completed"
        assert run.completed["r"] == run.completed["s"] == run.completed["end"] == 1
        assert run.at_a_time("p", "q", "r", "s") == 1
        withdrawn += "p" in run.cancelled
    assert withdrawn


def test_the_key_is_computed_and_others_are_not_held_back() -> None:
    definition = workflow(
        ["a", node("each", concurrency_key="item.who")],
        edge("a", "each", foreach="input"),
    )
    items = [{"who": "ann"}, {"who": "bob"}, {"who": "ann"}, {"who": "bob"}]
    for run in courses(definition, items):
        assert run.status == "completed"
        assert run.completed["each"] == 4
        assert run.at_a_time("each") == 2


def test_a_limit_admits_that_many() -> None:
    definition = workflow(
        ["a", node("each", concurrency_key=KEY, concurrency_limit=2)],
        edge("a", "each", spawn_count=4),
    )
    for run in courses(definition):
        assert run.completed["each"] == 4
        assert run.at_a_time("each") == 2
