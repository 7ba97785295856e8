"""WCP-27, Complete Multiple Instance Task: the instances left are withdrawn, and what follows goes on as if all had completed.

Carried by completing a group early: by command, by `complete_groups` on a transition, or by the join's `timeout_s` with
`on_timeout: proceed_with_available`. Its join fires once, with what there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cases.words import append, edge, node, workflow
from tests.patterns.harness import TIME, Course, Event, Pattern, courses
from wonder_ray.definitions.models import Join
from wonder_ray.planning import facts

if TYPE_CHECKING:
    from wonder_ray.definitions.models import Transition, WorkflowDefinition

PATTERN = Pattern(27, "Complete Multiple Instance Task", "a group completed early by command, transition or timeout")
MERGE = (append("state.came"),)


def instances(more: str = "", *edges: Transition, **join: Any) -> WorkflowDefinition:
    """A fan-out and its join, and perhaps more nodes and transitions."""
    return workflow(
        ["a", node("each", input={"value": "item"}), "join", "end", *map(node, more.split())],
        edge("a", "each", foreach="input", group="g"),
        edge("each", "join", join=Join(over="g", merge=MERGE, **join)),
        edge("join", "end"),
        *edges,
        output={"came": "state.came"},
    )


BY_COMMAND = instances()
BY_TRANSITION = instances("b enough", edge("a", "b"), edge("b", "enough", complete_groups=("g",)))
BY_TIME = instances(timeout_s=60, on_timeout="proceed_with_available")
DEFINITION = BY_COMMAND
COMMAND = Event("complete", facts.CompleteGroup(group="g"), when=lambda run: "a" in run.moves)
WAYS = {
    "command": (BY_COMMAND, [COMMAND], "complete"),
    "transition": (BY_TRANSITION, [], "b"),
    "time": (BY_TIME, [], TIME),
}


def came(run: Course) -> list[str]:
    """What the instances that completed have given, in their order."""
    return [token.result for token in run.tokens("each") if token.status == "completed"]


@pytest.mark.parametrize("way", WAYS)
def test_the_join_fires_once_with_what_there_is_and_the_rest_is_withdrawn(way: str) -> None:
    definition, events, move = WAYS[way]
    numbers = set()
    for run in courses(definition, ["x", "y", "z"], events=events, late=True):
        until = run.moves.index(move) if move in run.moves else None
        before = run.moves[:until].count("each")
        assert run.status == "completed"
        assert run.completed["each"] == before
        assert run.cancelled == ["each"] * (3 - before)
        assert (run.completed["join"], run.completed["end"]) == (1, 1)
        assert run.output == {"came": came(run)}
        numbers.add(before)
    assert numbers == {0, 1, 2, 3}


@pytest.mark.parametrize("way", ["command", "transition"])
def test_an_instance_that_ends_in_the_same_moment_counts_if_it_was_first(way: str) -> None:
    definition, events, move = WAYS[way]
    for run in courses(definition, ["x", "y"], events=events, batched=True, late=True):
        until = run.moves.index(move) if move in run.moves else None
        assert run.status == "completed"
        assert run.completed["each"] == run.moves[:until].count("each")
        assert (run.completed["join"], run.completed["end"]) == (1, 1)


def test_completing_twice_or_after_the_join_has_fired_changes_nothing() -> None:
    again = Event("again", facts.CompleteGroup(group="g"), when=lambda run: "a" in run.moves)
    for run in courses(BY_COMMAND, ["x", "y"], events=[COMMAND, again], late=True):
        assert run.status == "completed"
        assert (run.completed["join"], run.completed["end"]) == (1, 1)


def test_a_partial_join_goes_on_with_less_than_it_asked_for() -> None:
    definition = instances(strategy="m_of_n", m=2)
    for run in courses(definition, ["x", "y", "z"], events=[COMMAND]):
        until = run.moves.index("complete") if "complete" in run.moves else None
        assert run.status == "completed"
        assert (run.completed["join"], run.completed["end"]) == (1, 1)
        assert len(run.output["came"]) == min(2, run.moves[:until].count("each"))


def test_a_join_that_may_not_wait_longer_fails_when_it_is_told_to() -> None:
    for run in courses(instances(timeout_s=60, on_timeout="fail"), ["x", "y"]):
        if TIME in run.moves:
            assert run.status == "failed"
            assert run.starts("join") == []
        else:
            assert run.status == "completed"
