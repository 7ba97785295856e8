"""WCP-15, Multiple Instances without a priori Run-Time Knowledge: instances may be added while others run; all are waited for.

Carried by an open group: members are added to it by command until it is closed, and its `all` join fires no earlier than that.
"""

from __future__ import annotations

import pytest

from tests.cases.words import all_of, append, edge, node, workflow
from tests.patterns.harness import Course, Event, Pattern, courses
from wonder_ray.planning import facts

PATTERN = Pattern(
    15, "Multiple Instances without a priori Run-Time Knowledge", "open group: members are added until it is closed"
)
DEFINITION = workflow(
    ["a", node("each", input={"value": "item"}), "join", "end"],
    edge("a", "each", foreach="input", group="g", open=True),
    edge("each", "join", join=all_of("g", append("state.all"))),
    edge("join", "end"),
    output={"all": "state.all"},
)


def is_open(run: Course) -> bool:
    """Whether members may be added, and the group may be closed."""
    return "a" in run.moves and "close" not in run.moves


def add(*items: str) -> Event:
    """Some members are added."""
    return Event("add", facts.AddMembers(group="g", items=list(items)), when=is_open)


CLOSE = Event("close", facts.SealGroup(group="g"), when=is_open)


@pytest.mark.parametrize("first", [[], ["x"], ["x", "y"]])
def test_the_join_waits_for_all_members_those_added_included(first: list[str]) -> None:
    numbers = set()
    for run in courses(DEFINITION, first, events=[add("p", "q"), CLOSE], late=True):
        added = ["p", "q"] if "add" in run.moves else []
        assert run.status == "completed"
        assert run.completed["each"] == len(first) + len(added)
        assert (run.completed["join"], run.completed["end"]) == (1, 1)
        assert run.in_order("each", "join")
        assert run.events("group.sealed")[0]["sequence_number"] < run.starts("join")[0]
        assert run.output == {"all": [*first, *added]}
        numbers.add(len(added))
    assert numbers == {0, 2}, "before it is closed, members can be added; afterwards they cannot"


def test_a_group_that_is_not_closed_waits_even_if_all_its_members_have_come() -> None:
    for run in courses(DEFINITION, ["x"], events=[add("p")]):
        assert run.status == "waiting"
        assert run.counts == {"a": 1, "each": 2}
        assert run.starts("join") == []


def test_what_comes_after_the_closing_is_refused() -> None:
    late = Event("late", facts.AddMembers(group="g", items=["z"]), when=lambda run: "close" in run.moves)
    for run in courses(DEFINITION, ["x"], events=[CLOSE, late]):
        assert run.status == "completed"
        assert run.output == {"all": ["x"]}
        assert run.refusals == (["late"] if "late" in run.moves else [])
