"""What comes into a coordinator's mailbox, and the picture of a run that it shows to the outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.coordinator.dispatcher import Finished
from wonder_ray.coordinator.shipper import Shipped
from wonder_ray.planning import facts
from wonder_ray.planning.queries import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A caller's wish, answered after the commit; with a `key`, a repetition gets the first answer and has no effect."""

    fact: facts.Fact
    reply: Callable[[dict[str, Any] | Exception], None]
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A question about the state, answered as the last commit left it."""

    ask: Callable[[RunState, Graph], Any]
    reply: Callable[[Any], None]
    """Told the answer, or the `WonderError` that there was instead."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command in a batch, and all who wait for its answer."""

    position: int
    """Its place in the batch."""
    key: str | None
    callers: list[Callable[[dict[str, Any] | Exception], None]]


@dataclass(frozen=True, slots=True)
class Wake:
    """Nothing but the passing of time."""


Message = Command | Query | Finished | Shipped | facts.ChildStarted | facts.ChildEnded | Wake


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands, for queries; immutable."""

    run_id: str
    status: str
    epoch: int
    turn: int
    events: int
    tokens: int
    nodes: dict[str, dict[str, int]]
    """Node -> token status -> tokens."""
    in_flight: int
    started_us: int | None
    ended_us: int | None
    output: Any = None
    error: dict[str, Any] | None = None
    shipped: int = 0
    """The last event that the EventService has acknowledged."""
    ray_tasks: int = 0
    executor_pids: tuple[int, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    """The first of what it waits for; `nodes` counts all of it."""
    undos: int = 0
    """Completed nodes whose work can be taken back; while a run is compensating: those still to be."""
