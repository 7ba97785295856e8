"""A definition as the auditor reads it: its own reading, so that a mistake of the compiler is found, too.

Only expressions are evaluated by the production's own library: `Value` wraps what they give, errors included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wonder_ray.definitions.models import Join, Merge, Node, Transition, Undo, WorkflowDefinition

INCOMING: Final = "incoming"
GROUP_NAMES: Final = frozenset({"group", "results"})
_TRIGGER: Final = re.compile(r"(?P<outcome>\w+)(?:\((?P<group>[^)]*)\))?(?:\[(?P<type>[^\]]*)\])?")


@dataclass(frozen=True)
class Edge:
    """A transition, its trigger taken apart."""

    id: str
    order: int
    spec: Transition
    outcome: str
    error_type: str | None
    of_group: str | None

    @property
    def source(self) -> str:
        return self.spec.source

    @property
    def target(self) -> str:
        return self.spec.target

    @property
    def group(self) -> str | None:
        return self.spec.group

    @property
    def join(self) -> Join | None:
        return self.spec.join

    @property
    def fans_out(self) -> bool:
        return self.spec.foreach is not None or self.spec.spawn_count is not None


@dataclass(frozen=True)
class JoinRule:
    """A join, with the node it leads to."""

    node: str
    spec: Join

    @property
    def merges(self) -> tuple[Merge, ...]:
        return self.spec.merge


@dataclass
class Reading:
    """What the rules need of a definition."""

    definition: WorkflowDefinition
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    edge: dict[str, Edge] = field(default_factory=dict)
    leaving: dict[str, list[Edge]] = field(default_factory=dict)
    entering: dict[str, list[Edge]] = field(default_factory=dict)
    group_join: dict[str, JoinRule] = field(default_factory=dict)
    incoming_join: dict[str, JoinRule] = field(default_factory=dict)
    start: tuple[str, ...] = ()
    items: frozenset[str] = frozenset()
    undo: dict[str, Undo] = field(default_factory=dict)
    """Undo node -> what takes a node's work back."""
    listeners: dict[str, list[str]] = field(default_factory=dict)
    """Signal -> the nodes that wait for it."""

    def __post_init__(self) -> None:
        self.nodes = {node.id: node for node in self.definition.nodes}
        for node in self.definition.nodes:
            undo = getattr(node, "undo", None)
            if undo is not None:
                self.undo[f"undo:{node.id}"] = undo
            if node.kind == "wait_signal":
                self.listeners.setdefault(node.signal or node.id, []).append(node.id)
        self.leaving = {node: [] for node in self.nodes}
        self.entering = {node: [] for node in self.nodes}
        seen: dict[tuple[str, str], int] = {}
        for order, spec in enumerate(self.definition.transitions):
            nth = seen[spec.source, spec.target] = seen.get((spec.source, spec.target), 0) + 1
            self._add(spec, order, f"{spec.source}->{spec.target}" + (f"#{nth}" if nth > 1 else ""))
        self.start = self.definition.start or tuple(node for node in self.nodes if not self.entering[node])
        self.items = frozenset(spec.item for spec in self.definition.transitions if spec.foreach is not None)

    def _add(self, spec: Transition, order: int, edge_id: str) -> None:
        parts = _TRIGGER.fullmatch(spec.on)
        assert parts is not None, spec.on
        edge = Edge(edge_id, order, spec, parts["outcome"], parts["type"], parts["group"])
        self.edges.append(edge)
        self.edge[edge.id] = edge
        self.leaving[edge.source].append(edge)
        self.entering[edge.target].append(edge)
        if spec.join is not None and spec.join.over == INCOMING:
            self.incoming_join[spec.target] = JoinRule(spec.target, spec.join)
        elif spec.join is not None:
            self.group_join[spec.join.over] = JoinRule(spec.target, spec.join)

    def spec(self, node: str) -> Node | Undo:
        """A node, or an undo node."""
        return self.undo[node] if node in self.undo else self.nodes[node]

    def kind(self, node: str) -> str:
        """The kind of a node; undo nodes run an action."""
        return "action" if node in self.undo else self.nodes[node].kind

    def is_inline(self, node: str) -> bool:
        """Whether a coordinator starts the node's tokens itself, without a task."""
        return self.kind(node) not in {"action", "steps"}

    def tiers(self, node: str, outcome: str, of_group: str | None = None) -> list[list[Edge]]:
        """The transitions of an outcome, by priority, each tier in the order of the definition."""
        found: dict[int, list[Edge]] = {}
        for edge in self.leaving[node]:
            if edge.outcome == outcome and edge.of_group == of_group:
                found.setdefault(edge.spec.priority, []).append(edge)
        return [found[priority] for priority in sorted(found)]

    # --- expressions ---------------------------------------------------------------------------------------------

    def evaluate(self, text: str, scope: Mapping[str, Any], extra: frozenset[str] = frozenset()) -> Any:
        """The value of an expression; raises `UndefinedError` where it has none."""
        try:
            return compile_expression(text, self.items | extra).evaluate(scope)
        except ExpressionError as error:
            raise UndefinedError(str(error)) from None

    def is_true(self, text: str, scope: Mapping[str, Any]) -> bool:
        """The value of a condition; raises `UndefinedError` where it is none."""
        value = self.evaluate(text, scope)
        if not isinstance(value, bool):
            msg = f"{text} is no condition"
            raise UndefinedError(msg)
        return value

    def count(self, what: int | str, scope: Mapping[str, Any], extra: frozenset[str] = frozenset()) -> int:
        """A number of things; raises `UndefinedError` where it is none."""
        if isinstance(what, int):
            return what
        value = self.evaluate(what, scope, extra)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            msg = f"{what} is no count: {value!r}"
            raise UndefinedError(msg)
        return value


class UndefinedError(Exception):
    """An expression has no value, or not one of the kind that is wanted."""
