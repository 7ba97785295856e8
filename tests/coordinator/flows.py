"""Small definitions for tests of the coordinator, and how to drive a world that runs one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.coordinator.fakes import RUN_ID, World
from wonder_ray.coordinator.loading import state_of
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.joins import All, Append
from wonder_ray.fold import fold
from wonder_ray.storage.memory import MemoryRunStore

if TYPE_CHECKING:
    from wonder_ray.definitions.models import WorkflowDefinition

NUMBERS = list(range(6))


def chain(**options: Any) -> WorkflowDefinition:
    flow = Workflow("chain", output={"n": "state.n"})
    flow.node("one", "m:one", input={"n": "input.n"}, output={"state.n": "result"}, **options)
    flow.node("two", "m:two", input={"n": "state.n"}, output={"state.n": "result"})
    flow.transition("one", "two")
    return flow.definition()


def fan_out() -> WorkflowDefinition:
    flow = Workflow("fan-out", output={"all": "state.all"})
    flow.compute("first")
    flow.node("each", "m:each", input={"n": "item"})
    flow.compute("done")
    flow.transition("first", "each", foreach="input", group="g")
    flow.transition("each", "done", join=All("g", merge=Append("state.all")))
    return flow.definition()


def finish(world: World) -> None:
    """Let every task succeed and every batch be acknowledged, until the coordinator has nothing left to do."""
    for _ in range(1000):
        for task in world.out:
            task.succeed(1)
        while world.sink.waiting:
            world.sink.acknowledge()
        if world.coordinator.finished:
            return
        world.tick(0.1)
    pytest.fail(f"the run does not end: {world.status}")


def check(world: World) -> None:
    """What is on the disk is whole: dense events, whose fold is the stored state."""
    assert world.committed() == list(range(1, len(world.committed()) + 1))
    rows = [msgspec.json.decode(line) for _, line in world.disk.outboxes["events"].values()]
    world.store.crash()
    stored = MemoryRunStore(world.disk).load()
    assert stored is not None
    assert fold(RUN_ID, rows).durable() == state_of(stored).durable()
