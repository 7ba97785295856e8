"""A definition without its data: the graph that production planners run on, with free choices in the place of expressions.

What is left out only delays things (retries, guards, keys, limits of concurrency), or decides about data. Gates, signals, timers
and child runs are work that ends some time, as tasks are. A loop's counter is cut at a few iterations, a fan-out's size at what
its join can tell apart; what is added to an open group from outside counts as there from the start.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.definitions.graph import Edge, Graph, compile_graph
from wonder_ray.errors import ExpressionError
from wonder_ray.soundness.choosing import Chooser, FreeCondition, FreeCount, FreeThreshold
from wonder_ray.soundness.conditions import names_in, parse_condition, subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.definitions import models
    from wonder_ray.definitions.graph import NodeSpec

ITERATIONS: Final = 2
"""A loop that is bounded by more is taken so often at most."""
SIZES: Final = 2
"""A fan-out that nothing tells to be larger has so many branches at most."""
SIZE_MAX: Final = 12
"""No fan-out is explored with more, whatever its join needs."""
_NOTHING: Final[tuple[tuple[str, Any], ...]] = (
    ("guard", None), ("concurrency_key", None), ("output", {}), ("timeout_s", None), ("input", {}), ("retry", ()), ("undo", None),
)  # fmt: skip


class Abstract:
    """What is explored of a definition.

    Attributes:
        graph: For the planners.
        chooser: Answers what they ask.
        exact: Groups whose size matters, beside whether they have members.
        ordered: Groups whose instances fire in the order of their opening.
    """

    def __init__(self, definition: models.WorkflowDefinition) -> None:
        self.chooser = Chooser()
        bare = compile_graph(_stripped(definition))
        self._original = _thresholds(definition)
        fanned = {t.group for t in definition.transitions if t.foreach is not None or t.spawn_count is not None}
        self._thresholds = {g: min(m, SIZE_MAX - 1) if g in fanned else m for g, m in self._original.items()}
        asked = (parse_condition(t.when) for t in definition.transitions if t.when is not None)
        often = Counter(subject(condition.atom) for condition in asked if condition.of_input)
        self._kept = {about for about, count in often.items() if count > 1}
        edges = tuple(self._edge(edge, t) for edge, t in zip(bare.edges, definition.transitions, strict=True))
        nodes = {node.id: _as_work(node, bare.outgoing[node.id]) for node in bare.nodes.values()}
        self.graph = Graph(nodes=nodes, edges=edges, start=bare.start, output=(), timeout_us=None, max_depth=bare.max_depth)
        joins = self.graph.group_joins
        self.ordered = {name for name, join in joins.items() if join.blocking}
        tolerant = {edge.group for edge in edges if edge.tolerated is not None and edge.group is not None}
        self.exact = {name for name, join in joins.items() if join.strategy != "all"} | tolerant

    def _edge(self, edge: Edge, t: models.Transition) -> Edge:
        fields: dict[str, Any] = {}
        if t.when is not None:
            condition = parse_condition(t.when)
            fields["when"] = FreeCondition(
                t.when, condition, self.chooser, kept=condition.of_input and subject(condition.atom) in self._kept
            )
        if t.foreach is not None:
            said = None if t.open else _length(t.foreach)
            fields["foreach"] = FreeCount(t.foreach, self._sizes(t, said), self.chooser, as_list=True)
        if isinstance(t.spawn_count, str) or (t.spawn_count is not None and t.open):
            fields["spawn_count"] = FreeCount(str(t.spawn_count), self._sizes(t, None), self.chooser, as_list=False)
        elif t.spawn_count is not None:
            fields["spawn_count"] = self._sizes(t, t.spawn_count)[0]
        if t.max_iterations is not None:
            fields["max_iterations"] = min(t.max_iterations, max(ITERATIONS, *self._thresholds.values(), 0))
        if edge.join is not None and edge.join.m is not None and t.join is not None:
            fields["join"] = msgspec.structs.replace(edge.join, m=self._threshold(t.join))
        return msgspec.structs.replace(edge, **fields) if fields else edge

    def _threshold(self, join: models.Join) -> FreeThreshold | int | None:
        if isinstance(join.m, str):
            return FreeThreshold(join.m, self.chooser)
        return self._thresholds.get(join.over, join.m)

    def _sizes(self, t: models.Transition, said: int | None) -> tuple[int, ...]:
        """The sizes of a fan-out that are explored: those that its join tells apart."""
        needed = self._thresholds.get(t.group or "", 1)
        tolerated = t.tolerated_failures if isinstance(t.tolerated_failures, int) else 0
        most = max(SIZES, needed + 1, min(tolerated + 2, SIZE_MAX))
        if said is None:
            return tuple(sorted({0, 1, needed, most}))
        original = self._original.get(t.group or "", needed)
        return (min(said, needed - 1) if said < original else min(said - original + needed, most),)


def _as_work(node: NodeSpec, leaving: Iterable[Edge]) -> NodeSpec:
    """What waits for the world as a task; and what is computed, too, where its failure is routed."""
    is_routed = any(edge.trigger.outcome in {"failed", "timed_out"} for edge in leaving)
    if node.is_task or node.terminate is not None or (node.kind == "compute" and not is_routed):
        return node
    return msgspec.structs.replace(node, kind="action", gate=None, signal=None, timer=None, child=None)


def _stripped(definition: models.WorkflowDefinition) -> models.WorkflowDefinition:
    """The definition without all that is evaluated."""
    nodes = tuple(
        node.model_copy(update={name: empty for name, empty in _NOTHING if getattr(node, name, empty) != empty})
        for node in definition.nodes
    )
    transitions = tuple(map(_stripped_transition, definition.transitions))
    return definition.model_copy(update={"nodes": nodes, "transitions": transitions, "output": {}})


def _stripped_transition(t: models.Transition) -> models.Transition:
    fields: dict[str, Any] = {}
    if t.when is not None or t.max_concurrency is not None:
        fields = {"when": None, "max_concurrency": None}
    if t.foreach is not None:
        fields["foreach"] = "[]"
    if isinstance(t.spawn_count, str):
        fields["spawn_count"] = 0
    if t.join is not None:
        fields["join"] = t.join.model_copy(update={"merge": (), **({"m": 1} if isinstance(t.join.m, str) else {})})
    return t.model_copy(update=fields) if fields else t


def _thresholds(definition: models.WorkflowDefinition) -> dict[str, int]:
    """Group -> how many arrivals its join needs, where that is a number."""
    return {
        t.join.over: t.join.m
        for t in definition.transitions
        if t.join is not None and t.join.strategy == "m_of_n" and isinstance(t.join.m, int)
    }


def _length(foreach: str) -> int | None:
    """The length of a list that is written out."""
    if names_in(foreach):
        return None
    try:
        found = compile_expression(foreach).evaluate({})
    except ExpressionError:
        return None
    return len(found) if isinstance(found, list) else None
