"""WCP-36, Dynamic Partial Join for Multiple Instances: more may be added, and a condition says if those suffice that came.

Carried by an open group whose `m_of_n` join has an expression for `m`. It is evaluated whenever a member arrives, and sees
`group` (size, arrived, active, failures) and `results`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cases.words import append, edge, m_of, node, workflow
from tests.patterns.harness import Course, Event, Pattern, courses
from wonder_ray.planning import facts

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition

PATTERN = Pattern(
    36, "Dynamic Partial Join for Multiple Instances", "open group; `m` is an expression, evaluated at each arrival"
)


def instances(m: str, remaining: str = "absorb") -> WorkflowDefinition:
    """Instances in an open group, and a condition for enough of them."""
    return workflow(
        ["a", node("each", input={"value": "item"}), "join", "end"],
        edge("a", "each", foreach="input", group="g", open=True),
        edge("each", "join", join=m_of(m, "g", remaining, append("state.came"))),
        edge("join", "end"),
        output={"came": "state.came"},
    )


MAJORITY = instances("group.size / 2 + 1")
GOOD = instances("results.exists(r, r == 'good') ? group.arrived : group.size + 1", "cancel")
"""One good result is enough; however many others do not count."""
DEFINITION = MAJORITY


def is_open(run: Course) -> bool:
    """Whether members may be added."""
    return "a" in run.moves and "close" not in run.moves and not run.events("fan_in.completed")


def add(*items: str) -> Event:
    """Some members are added."""
    return Event(f"add {len(items)}", facts.AddMembers(group="g", items=list(items)), when=is_open)


CLOSE = Event("close", facts.SealGroup(group="g"), when=is_open)


def majority_at(moves: list[str], size: int) -> int:
    """With how many arrivals a majority of what there was by then had come."""
    arrived = 0
    for move in moves:
        size += int(move.removeprefix("add ")) if move.startswith("add") else 0
        arrived += move == "each"
        if move == "each" and arrived >= size // 2 + 1:
            return arrived
    raise AssertionError(moves)


def test_the_join_fires_when_the_condition_holds_of_the_members_there_are_by_then() -> None:
    needed = set()
    for run in courses(MAJORITY, ["x", "y", "z"], events=[add("p", "q"), CLOSE]):
        assert run.status == "completed"
        assert (run.completed["join"], run.completed["end"]) == (1, 1)
        came = majority_at(run.moves, 3)
        assert sum(end < run.starts("join")[0] for end in run.ends("each")) == len(run.output["came"]) == came
        assert run.completed["each"] == (5 if "add 2" in run.moves else 3)
        needed.add(came)
    assert needed == {2, 3}


@pytest.mark.parametrize("items", [["good"], ["bad", "good", "bad"], ["good", "good"]])
def test_the_condition_may_look_at_the_results(items: list[str]) -> None:
    for run in courses(GOOD, items, events=[CLOSE], late=True):
        assert run.status == "completed"
        assert (run.completed["join"], run.completed["end"]) == (1, 1)
        assert run.output["came"].count("good") == 1
        assert run.completed["each"] + run.cancelled.count("each") == len(items)
        assert run.in_order("each", "join")


def test_while_members_may_be_added_a_condition_that_does_not_hold_is_waited_for() -> None:
    for run in courses(GOOD, ["bad", "bad"]):
        assert run.status == "waiting"
        assert run.counts == {"a": 1, "each": 2}
    for run in courses(GOOD, ["bad"], events=[add("good")]):
        assert run.status == "completed"
        assert run.output["came"].count("good") == 1


def test_when_the_group_is_closed_a_condition_that_cannot_hold_any_more_is_a_failure() -> None:
    for run in courses(GOOD, ["bad", "bad"], events=[CLOSE]):
        assert run.status == "failed"
        assert run.error is not None
        assert run.error.type == "JoinUnsatisfied"
        assert run.starts("join") == []


def test_members_that_arrive_in_the_same_moment_fire_once() -> None:
    for run in courses(MAJORITY, ["x", "y", "z"], events=[CLOSE], batched=True):
        assert run.status == "completed"
        assert (run.completed["join"], run.completed["end"]) == (1, 1)
