"""What a step costs does not grow with the run: counted in calls of functions, which no busy machine distorts."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cases.words import all_of, any_of, append, edge, m_of, node, workflow
from tests.core import RUN_ID, attempt_of
from wonder_ray.coordinator.machine import Machine
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.fold import new_state
from wonder_ray.planning import facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.definitions.models import WorkflowDefinition


def calls(definition: WorkflowDefinition, value: Any, batch: int = 50, room: int = 1_000_000) -> int:
    """How many functions a run calls from its start to its end."""
    machine = Machine(compile_graph(definition), new_state(RUN_ID), epoch=1)
    count = 0

    def note(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    flying: list[Any] = []

    def tell(*told: facts.Fact) -> bool:
        turn = machine.turn(told, now_us=1, room=lambda _node: room - len(flying))
        flying.extend(turn.dispatched)
        return turn.ended

    sys.setprofile(note)
    try:
        ended = tell(facts.StartRun(input=value, workflow_name="w", workflow_version="v"))
        while not ended:
            assert flying
            told, flying = flying[:batch], flying[batch:]
            ended = tell(*(facts.TaskSucceeded(**attempt_of(token), result=1) for token in told))
    finally:
        sys.setprofile(None)
    return count


def fan_out(join: Any, **rest: Any) -> Callable[[int], int]:
    flow = workflow(
        [node("a"), node("b", input={"value": "item"}, output={"state.x": "result"}), node("join")],
        edge("a", "b", foreach="input", group="g", **rest),
        edge("b", "join", join=join),
    )
    return lambda count: calls(flow, list(range(count)))


def in_batches(count: int) -> int:
    flow = workflow(
        [node("a"), node("b", input={"value": "item"}), node("join")],
        edge("a", "b", foreach="input", group="g"),
        edge("b", "join", join=all_of("g")),
    )
    return calls(flow, list(range(count)), room=60)


def in_branches(count: int) -> int:
    """Each branch has a fork and a join over `incoming` of its own."""
    join = all_of("incoming")
    flow = workflow(
        "a b c d e join",
        edge("a", "b", spawn_count="input", group="g"),
        edge("b", "c"),
        edge("b", "d"),
        edge("c", "e", join=join),
        edge("d", "e", join=join),
        edge("e", "join", join=all_of("g")),
    )
    return calls(flow, count)


def graph(count: int) -> int:
    """An acyclic graph in which nearly every node joins over what leads into it."""
    chance = random.Random(1)
    into = {b: sorted(chance.sample(range(b), min(b, chance.randint(1, 4)))) for b in range(1, count)}
    edges = [
        edge(
            f"n{a}",
            f"n{b}",
            when="1 == 2" if chance.random() < 0.1 else None,
            join=all_of("incoming") if len(found) > 1 else None,
        )
        for b, found in into.items()
        for a in found
    ]
    return calls(workflow([node(f"n{i}") for i in range(count)], *edges), None)


def nested_groups(count: int) -> int:
    flow = workflow(
        "a b c inner join",
        edge("a", "b", spawn_count="input", group="g"),
        edge("b", "c", spawn_count=2, group="h"),
        edge("c", "inner", join=any_of("h")),
        edge("inner", "join", join=all_of("g")),
    )
    return calls(flow, count)


def ring(count: int) -> int:
    """One token goes around a loop."""
    flow = workflow("a b end", edge("a", "b"), edge("b", "a", max_iterations=count), edge("b", "end", priority=1), start=("a",))
    return calls(flow, None)


@pytest.mark.parametrize(
    "cost",
    [
        pytest.param(fan_out(all_of("g", append("state.all"))), id="all"),
        pytest.param(fan_out(any_of("g")), id="any"),
        pytest.param(fan_out(any_of("g", "pass")), id="pass"),
        pytest.param(fan_out(m_of("size(input) - 1", "g")), id="m-of-n"),
        pytest.param(fan_out(all_of("g"), max_concurrency=20), id="limited"),
        *(in_batches, in_branches, graph, nested_groups, ring),
    ],
)
def test_a_run_ten_times_as_large_costs_ten_times_as_much(cost: Callable[[int], int]) -> None:
    small, large = cost(150), cost(1500)
    assert large / small < 12
