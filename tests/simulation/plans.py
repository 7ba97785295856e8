"""A workload: what runs, what is asked of it, and what goes wrong; drawn from a seed, and made smaller when it fails.

>>> draw_plan(7) == draw_plan(7)
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.chance import Chance
from tests.simulation.faults import Fault, draw_faults
from tests.simulation.graphs import INPUT, draw_definition, is_valid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wonder_ray.definitions.models import WorkflowDefinition

FAULTS_MAX: Final = 14


class Ask(msgspec.Struct, frozen=True):
    """One command that a caller sends, again and again until it hears yes."""

    kind: str
    at_ms: int
    key: str
    copies: int = 1
    """How often it is sent at once: the same caller, the same key."""


class Plan(msgspec.Struct, frozen=True):
    """One workload."""

    seed: int
    definition: Any
    input: Any
    faults: tuple[Fault, ...]
    asks: tuple[Ask, ...]
    slots: int
    pace_ms: int
    """Most attempts take up to so long: short ones are sent in batches."""


def draw_plan(seed: int) -> Plan:
    """The workload of a seed."""
    definition = draw_definition(Chance(seed, "definition"))
    chance = Chance(seed, "plan")
    return Plan(
        seed=seed,
        definition=definition,
        input=INPUT,
        faults=() if chance.maybe(0.1) else draw_faults(chance, FAULTS_MAX),
        asks=_draw_asks(chance),
        slots=chance.pick([1, 2, 4, 8]),
        pace_ms=chance.pick([5, 40, 200, 200]),
    )


def _draw_asks(chance: Chance) -> tuple[Ask, ...]:
    if not chance.maybe(0.15):
        return ()
    at_ms = chance.number(1, chance.pick([100, 1_000, 5_000]))
    return tuple(
        Ask("cancel", at_ms + 50 * nth, f"cancel-{nth}", chance.pick([1, 2, 3])) for nth in range(chance.pick([1, 1, 2]))
    )


def parts_of(plan: Plan) -> list[str]:
    """The names of all that can be left out of a plan, what matters least first."""
    definition: WorkflowDefinition = plan.definition
    return [
        *(f"f{i}" for i in range(len(plan.faults))),
        *(f"a{i}" for i in range(len(plan.asks))),
        *(f"t{i}" for i in range(len(definition.transitions))),
        *(node.id for node in definition.nodes if node.id not in definition.start),
        "output",
    ]


def without(plan: Plan, left_out: Iterable[str]) -> Plan | None:
    """The plan without some of its parts; None when its definition is none any more."""
    gone = set(left_out)
    definition: WorkflowDefinition = plan.definition
    transitions = tuple(
        transition
        for i, transition in enumerate(definition.transitions)
        if gone.isdisjoint({f"t{i}", transition.source, transition.target})
    )
    update: dict[str, Any] = {
        "nodes": tuple(node for node in definition.nodes if node.id not in gone),
        "transitions": transitions,
    }
    if "output" in gone:
        update["output"] = {}
    smaller = definition.model_copy(update=update)
    if not is_valid(smaller):
        return None
    return msgspec.structs.replace(
        plan,
        definition=smaller,
        faults=tuple(_kept(plan.faults, "f", gone)),
        asks=tuple(_kept(plan.asks, "a", gone)),
    )


def _kept(parts: Iterable[Any], letter: str, gone: set[str]) -> Iterator[Any]:
    return (part for i, part in enumerate(parts) if f"{letter}{i}" not in gone)
