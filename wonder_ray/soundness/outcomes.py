"""How a node's work may end, as far as the definition tells the ends apart."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from wonder_ray.definitions.checks.groups import Contexts
from wonder_ray.definitions.checks.survey import Survey
from wonder_ray.definitions.triggers import parse_trigger
from wonder_ray.state import ErrorRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.definitions.models import Node, WorkflowDefinition

ANY_ERROR: Final = "SomeError"
"""The type of a failure that no transition names."""
BY_EXPRESSION: Final = ("ExpressionError", "GuardUnsatisfied")
"""How what is not work can fail: an expression cannot be evaluated, or a guard cannot come to hold."""
TYPES_MAX: Final = 8
"""So many error types that group handlers name are told apart at most."""


class Outcome(NamedTuple):
    """One way in which a node's work ends, or what else can happen from outside."""

    label: str
    error: ErrorRecord | None = None
    of: Literal["work", "closing", "time"] = "work"
    """Whether work ends, an open group is closed, or a join has waited long enough."""
    subject: str = ""
    """What stands before the name of who it happens to."""

    @property
    def by_time(self) -> bool:
        """Whether it happens since so much time has passed."""
        return self.of == "time" or self.label in {TIMES_OUT, ENDS["timer"]}


COMPLETES: Final = Outcome("completes")
CLOSED: Final = Outcome("is closed from outside", of="closing", subject="group ")
GROUP_WAITED: Final = Outcome("has waited as long as it may", of="time", subject="the join over ")
JOIN_WAITED: Final = Outcome("has waited as long as it may", of="time", subject="the join at ")
TIMES_OUT: Final = "times out"
ENDS: Final = MappingProxyType(
    {"gate": "is answered", "wait_signal": "gets its signal", "timer": "goes off", "subworkflow": "completes"}
)
"""Kind of node -> how its work is said to end well."""
NEVER_FAIL: Final = frozenset({"timer", "compute", "terminate"})
"""Kinds of nodes that fail by an expression only, which is explored where they, or groups around them, route it."""


class OpenGroups:
    """Which groups can be open where: an upper bound, as validation finds it."""

    def __init__(self, definition: WorkflowDefinition) -> None:
        self._contexts = Contexts(Survey(definition))

    def bits(self, groups: Iterable[str]) -> int | None:
        """A set of groups; None where one of them is joined nowhere, since such count as open everywhere."""
        found = 0
        for group in groups:
            bit = self._contexts.groups.get(group)
            if bit is None:
                return None
            found |= bit
        return found

    def any_at(self, node: str, bits: int | None) -> bool:
        """Whether one of a set of groups can be open at a node."""
        return bits is None or bool(self._contexts.at.get(node, 0) & bits)

    def fallible(self, definition: WorkflowDefinition) -> set[str]:
        """The nodes whose failure is handled, there or by a group around them, of those that fail only by an expression."""
        triggers = [(t.source, parse_trigger(t.on)) for t in definition.transitions]
        handled = [(node, trigger) for node, trigger in triggers if trigger.error_type in {None, *BY_EXPRESSION}]
        routed = {node for node, trigger in handled if trigger.outcome == "failed"}
        groups = {trigger.group for _, trigger in handled if trigger.group is not None}
        bits = self.bits(groups)
        if not groups and not routed:
            return set()
        asks = {t.source for t in definition.transitions if t.when or t.foreach or isinstance(t.spawn_count, str)}
        quiet = (node for node in definition.nodes if node.kind in NEVER_FAIL and (node.id in asks or _evaluates(node)))
        return {node.id for node in quiet if node.id in routed or (groups and self.any_at(node.id, bits))}


def _evaluates(node: Node) -> bool:
    """Whether a node of its own evaluates something that can fail."""
    return bool(getattr(node, "guard", None) or getattr(node, "output", None) or getattr(node, "until", None)) or isinstance(
        getattr(node, "duration_s", None), str
    )


def outcomes_of(definition: WorkflowDefinition, graph: Graph, open_groups: OpenGroups) -> dict[str, tuple[Outcome, ...]]:
    """Node -> how its work may end.

    Failures are told apart only where something is routed by them: at the node, or at the opener of a group around it.
    """
    handled: dict[str, list[str]] = {}
    for edge in graph.edges:
        if edge.trigger.group is not None:
            handled.setdefault(edge.trigger.group, []).append(edge.trigger.error_type or ANY_ERROR)
    watched = open_groups.bits(handled)
    quiet = {name for name in open_groups.fallible(definition) if graph.nodes[name].kind == "action"}  # timers
    each = [(open_groups.bits([group]), kinds) for group, kinds in handled.items()]
    found = {}
    for node in definition.nodes:
        triggers = [edge.trigger for edge in graph.outgoing[node.id]]
        types = [t.error_type or ANY_ERROR for t in triggers if t.outcome == "failed"]
        times_out = any(t.outcome == "timed_out" for t in triggers)
        if (node.kind not in NEVER_FAIL or node.id in quiet) and open_groups.any_at(node.id, watched):
            around = dict.fromkeys(kind for bits, kinds in each if open_groups.any_at(node.id, bits) for kind in kinds)
            if node.id in quiet:
                around = {BY_EXPRESSION[0]: None, **{kind: None for kind in around if kind in BY_EXPRESSION}}
            types += list(around)[:TYPES_MAX]
        completes = COMPLETES if node.kind not in ENDS else Outcome(ENDS[node.kind])
        outcomes = [completes, *map(_failure, dict.fromkeys(types))]
        if times_out:
            outcomes.append(Outcome(TIMES_OUT, ErrorRecord("Timeout", "", retryable=False, kind="timeout")))
        found[node.id] = tuple(outcomes)
    return found


def _failure(kind: str) -> Outcome:
    label = "fails" if kind == ANY_ERROR else f"fails with {kind}"
    return Outcome(label, ErrorRecord(kind, "", retryable=False))
