"""A workload: what runs, what is asked of it, and what goes wrong; drawn from a seed, and made smaller when it fails.

>>> draw_plan(7) == draw_plan(7)
True
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.callers import Ask
from tests.simulation.chance import Chance
from tests.simulation.faults import Fault, draw_faults
from tests.simulation.graphs import INPUT, draw_children, draw_definition, is_valid
from wonder_ray.definitions.models import GateNode, SignalNode, WorkflowDefinition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FAULTS_MAX: Final = 24
_ASKED: Final = MappingProxyType(
    {"pause": 4, "update": 3, "signal": 3, "answer": 3, "cancel": 2, "complete": 1, "seal": 1, "add": 1, "continue": 1}
)


class Plan(msgspec.Struct, frozen=True):
    """One workload."""

    seed: int
    definition: Any
    input: Any
    faults: tuple[Fault, ...]
    asks: tuple[Ask, ...]
    children: dict[str, Any]
    """Name -> the definition of a workflow that child runs have."""
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
        asks=_draw_asks(chance, definition),
        children=draw_children(Chance(seed, "children")),
        slots=chance.pick([1, 2, 4, 8]),
        pace_ms=chance.pick([5, 40, 200, 200]),
    )


def _draw_asks(chance: Chance, definition: WorkflowDefinition) -> tuple[Ask, ...]:
    """What is asked of the run at any moment, whether it makes sense then or not."""
    asks = []
    for nth in range(chance.often({0: 4, 1: 4, 2: 2, 4: 1})):
        kind = chance.often(dict(_ASKED))
        target, value = _drawn_target(chance, definition, kind)
        at_ms = chance.number(1, chance.pick([100, 1_000, 4_000]))
        asks.append(Ask(kind, at_ms, f"{kind}-{nth}", chance.pick([1, 1, 2, 3]), target, value))
    return tuple(asks)


def _drawn_target(chance: Chance, definition: WorkflowDefinition, kind: str) -> tuple[str, Any]:
    match kind:
        case "cancel":
            return "", chance.maybe(0.5)
        case "update":
            return "", {chance.pick(["state.door", "state.last", "state.box.door", "state.n1"]): chance.pick(["open", 1])}
        case "signal":
            names = [node.signal or node.id for node in definition.nodes if isinstance(node, SignalNode)]
            return chance.pick([*names, "unknown"]), chance.number(0, 3)
        case "answer":
            gates = [node.id for node in definition.nodes if isinstance(node, GateNode)]
            return chance.pick([*gates, "unknown"]), chance.pick([1, 2, "no number"])
        case "complete" | "seal" | "add":
            groups = sorted({transition.group for transition in definition.transitions if transition.group})
            return chance.pick([*groups, "unknown"]), [1, 2]
        case _:
            return "", None


def to_json(plan: Plan) -> bytes:
    """The plan as a file holds it, so that it means the same when plans are drawn otherwise."""
    plain: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(plan, definition=None, children={}))
    plain["definition"] = plan.definition.to_json()
    plain["children"] = {name: child.to_json() for name, child in plan.children.items()}
    return msgspec.json.format(msgspec.json.encode(plain), indent=1) + b"\n"


def from_json(data: bytes) -> Plan:
    """The plan in a file."""
    plain = msgspec.json.decode(data)
    plan = msgspec.convert(plain, Plan)
    children = {name: WorkflowDefinition.model_validate(child) for name, child in plain["children"].items()}
    return msgspec.structs.replace(plan, definition=WorkflowDefinition.model_validate(plain["definition"]), children=children)


def parts_of(plan: Plan) -> list[str]:
    """The names of all that can be left out of a plan, what matters least first."""
    definition: WorkflowDefinition = plan.definition
    return [
        *(f"f{i}" for i in range(len(plan.faults))),
        *(f"a{i}" for i in range(len(plan.asks))),
        *(f"t{i}" for i in range(len(definition.transitions))),
        *(node.id for node in definition.nodes if node.id not in definition.start),
        "output",
        *(f"c{i}" for i in range(len(plan.children))),
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
        children=dict(_kept(plan.children.items(), "c", gone)),
    )


def _kept(parts: Iterable[Any], letter: str, gone: set[str]) -> Iterator[Any]:
    return (part for i, part in enumerate(parts) if f"{letter}{i}" not in gone)
