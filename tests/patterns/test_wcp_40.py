"""WCP-40, Interleaved Routing: each of a set of tasks runs once, in any order, never two at a time.

Carried by a `concurrency_key` that the tasks share, on branches of one split.
"""

from __future__ import annotations

from itertools import permutations

from tests.cases.words import all_of, edge, node, workflow
from tests.patterns.harness import Event, Pattern, courses
from wonder_ray.definitions.models import SignalNode
from wonder_ray.planning import facts

PATTERN = Pattern(40, "Interleaved Routing", "a `concurrency_key` over a set of tasks")
TASKS = ("p", "q", "r")
DEFINITION = workflow(
    ["a", *(node(task, concurrency_key="'desk'") for task in TASKS), "end"],
    *(edge("a", task, group="g") for task in TASKS),
    *(edge(task, "end", join=all_of("g")) for task in TASKS),
)


def test_each_task_runs_once_and_never_two_at_a_time() -> None:
    for run in courses(DEFINITION):
        assert run.status == "completed"
        assert run.counts == dict.fromkeys(["a", *TASKS, "end"], 1)
        assert run.at_a_time(*TASKS) == 1
        assert all(run.in_order(task, "end") for task in TASKS)


def test_they_run_in_whatever_order_they_are_wanted() -> None:
    definition = workflow(
        [
            "a",
            *(SignalNode(id=f"want_{task}") for task in TASKS),
            *(node(task, concurrency_key="'desk'") for task in TASKS),
            "end",
        ],
        *(edge("a", f"want_{task}", group="g") for task in TASKS),
        *(edge(f"want_{task}", task) for task in TASKS),
        *(edge(task, "end", join=all_of("g")) for task in TASKS),
    )
    wanted = [Event(task, facts.SignalRun(name=f"want_{task}"), when=lambda run: "a" in run.moves) for task in TASKS]
    seen = set()
    for run in courses(definition, events=wanted):
        assert run.status == "completed"
        assert run.at_a_time(*TASKS) == 1
        order = list(dict.fromkeys(move for move in run.moves if move in TASKS))
        assert run.sequence(*TASKS) == order
        seen.add(tuple(order))
    assert seen == set(permutations(TASKS))


def test_a_task_that_is_made_again_keeps_its_turn_to_itself() -> None:
    definition = workflow(
        ["a", node("each", concurrency_key="'desk'"), "end"],
        edge("a", "each", spawn_count=3, group="g"),
        edge("each", "end", join=all_of("g")),
    )
    for run in courses(definition):
        assert run.counts == {"a": 1, "each": 3, "end": 1}
        assert run.at_a_time("each") == 1
