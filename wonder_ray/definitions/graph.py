"""A definition compiled for the planners: expressions ready to evaluate, transitions sorted into tiers, joins looked up.

A `Graph` is immutable and a pure function of its definition. It is built once per process and run.

>>> from wonder_ray.definitions.models import ActionNode, Transition, WorkflowDefinition
>>> graph = compile_graph(WorkflowDefinition(
...     name="two",
...     nodes=(ActionNode(id="a", action="m:a"), ActionNode(id="b", action="m:b")),
...     transitions=(Transition(source="a", target="b"),),
... ))
>>> graph.start, [edge.id for tier in graph.tiers("a", "completed") for edge in tier]
(('a',), ['a->b'])
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.definitions.expressions import Expression, compile_expression
from wonder_ray.definitions.node_specs import NodeSpec, RetryRule, compile_node, compile_undo, in_us
from wonder_ray.definitions.targets import Target, parse_target
from wonder_ray.definitions.triggers import Trigger, parse_trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from wonder_ray.definitions import models

__all__ = ["GROUP_NAMES", "INCOMING", "Edge", "Graph", "JoinSpec", "MergeSpec", "NodeSpec", "RetryRule", "compile_graph"]

INCOMING = "incoming"
GROUP_NAMES = frozenset({"group", "results"})
"""What the `m` of a join sees beside the names that every expression does: counts of its group, and what its members returned."""


class MergeSpec(msgspec.Struct, frozen=True):
    """One merge of a join."""

    target: Target
    source: Expression
    strategy: str


class JoinSpec(msgspec.Struct, frozen=True):
    """A join: `node` runs once for the members of `over` that it waits for."""

    node: str
    over: str
    strategy: str
    m: Expression | int | None
    remaining: str
    merges: tuple[MergeSpec, ...]
    blocking: bool = False
    timeout_us: int | None = None
    proceeds: bool = False
    """Whether it fires with what there is when its time is up (else it fails)."""


class Edge(msgspec.Struct, frozen=True):
    """A transition."""

    id: str
    order: int
    """Its place in the definition."""
    source: str
    target: str
    priority: int
    when: Expression | None
    trigger: Trigger
    spawn_count: Expression | int | None
    foreach: Expression | None
    item: str
    group: str | None
    max_concurrency: int | None
    tolerated: int | float | None
    max_iterations: int | None
    join: JoinSpec | None
    race: str | None = None
    open: bool = False
    cancel: tuple[str, ...] = ()
    cancel_groups: tuple[str, ...] = ()
    complete_groups: tuple[str, ...] = ()
    close_groups: tuple[str, ...] = ()
    has_effects: bool = False
    """Whether its firing does something beside making tokens."""

    @property
    def fans_out(self) -> bool:
        """Whether it makes a fan-out even when it makes one token."""
        return self.foreach is not None or self.spawn_count is not None


class Graph:
    """What planners read of a definition."""

    def __init__(
        self,
        *,
        nodes: Mapping[str, NodeSpec],
        edges: tuple[Edge, ...],
        start: tuple[str, ...],
        output: tuple[tuple[str, Expression], ...],
        timeout_us: int | None,
        state_schema: Mapping[str, Any] | None = None,
        max_depth: int = 16,
    ) -> None:
        self.nodes = MappingProxyType(dict(nodes))
        self.edges = edges
        self.start = start
        self.output = output
        self.timeout_us = timeout_us
        self.state_schema = state_schema
        self.max_depth = max_depth
        self.edge = MappingProxyType({edge.id: edge for edge in edges})
        self._tiers = MappingProxyType(_tiers(edges))
        self.group_joins = MappingProxyType(
            {edge.join.over: edge.join for edge in edges if edge.join is not None and edge.join.over != INCOMING}
        )
        """Group name -> its one join."""
        self.incoming_joins = MappingProxyType(
            {edge.target: edge.join for edge in edges if edge.join is not None and edge.join.over == INCOMING}
        )
        """Node -> its join over `incoming`."""
        incoming: dict[str, list[Edge]] = {node: [] for node in nodes}
        outgoing: dict[str, list[Edge]] = {node: [] for node in nodes}
        for edge in edges:
            incoming[edge.target].append(edge)
            outgoing[edge.source].append(edge)
        self.inline = frozenset(node.id for node in nodes.values() if not node.is_task)
        """Nodes that a coordinator starts itself, without a task."""
        self.guarded_nodes = tuple(node.id for node in nodes.values() if node.guard is not None)
        self.listeners = MappingProxyType(_listeners(nodes.values()))
        """Signal -> the nodes that wait for it."""
        self._branch_nodes: dict[str, frozenset[str]] = {}
        openers: dict[str, list[str]] = {}
        for edge in edges:
            if edge.group is not None:
                openers.setdefault(edge.group, []).append(edge.source)
        self.openers = MappingProxyType({group: tuple(found) for group, found in openers.items()})
        """Group -> the nodes whose transitions open it."""
        self._written = frozenset(_written(nodes.values(), edges))
        self.incoming = MappingProxyType({node: tuple(found) for node, found in incoming.items()})
        self.outgoing = MappingProxyType({node: tuple(found) for node, found in outgoing.items()})

    def tiers(self, node: str, outcome: str) -> tuple[tuple[Edge, ...], ...]:
        """The transitions that leave `node` on an outcome (completed, failed, ...), by ascending priority."""
        return self._tiers.get((node, outcome), ())

    def branch_nodes(self, first: str) -> frozenset[str]:
        """The nodes that a branch which begins at `first` can reach before it is joined; found once per node."""
        found = self._branch_nodes.get(first)
        if found is None:
            found = self._branch_nodes[first] = frozenset(_branch_nodes(first, self.outgoing, self.openers))
        return found

    def leading_to(self, nodes: Iterable[str]) -> frozenset[str]:
        """The nodes from which one of these can be reached over any transitions, themselves included."""
        return _reached(nodes, lambda node: (edge.source for edge in self.incoming[node]))

    def reached_from(self, nodes: Iterable[str]) -> frozenset[str]:
        """The nodes that can be reached from one of these over any transitions, themselves included."""
        return _reached(nodes, lambda node: (edge.target for edge in self.outgoing[node]))

    def retains(self, signal: str) -> bool:
        """Whether a signal is kept while nobody waits for it."""
        return any(spec is not None and spec.retained for spec in (self.nodes[node].signal for node in self.listeners[signal]))

    def waits_for_updates(self, node: str) -> bool:
        """Whether a node's guard reads state that no node writes, so that only an update from outside can change it."""
        guard = self.nodes[node].guard
        keys = None if guard is None else guard.keys_of("state")
        return keys is not None and not keys <= self._written

    def opening_edge(self, source: str, group: str) -> Edge | None:
        """The transition over which members are added to an open group from outside."""
        return next((edge for edge in self.outgoing[source] if edge.group == group and edge.open), None)


def _reached(nodes: Iterable[str], beside: Callable[[str], Iterable[str]]) -> frozenset[str]:
    found = set(nodes)
    stack = list(found)
    while stack:
        for node in beside(stack.pop()):
            if node not in found:
                found.add(node)
                stack.append(node)
    return frozenset(found)


def _branch_nodes(first: str, outgoing: Mapping[str, tuple[Edge, ...]], openers: Mapping[str, tuple[str, ...]]) -> set[str]:
    """A join leads out of the branch unless its group was opened in it, which may show only after a while."""
    found = {first}
    stack = [first]
    waiting: list[Edge] = []
    while stack or waiting:
        if not stack:
            leaving = [edge for edge in waiting if edge.join is None or found.isdisjoint(openers.get(edge.join.over, ()))]
            if len(leaving) == len(waiting):
                return found
            stack = [edge.target for edge in waiting if edge not in leaving and edge.target not in found]
            found.update(stack)
            waiting = leaving
            continue
        for edge in outgoing[stack.pop()]:
            if edge.join is not None and edge.join.over != INCOMING:
                waiting.append(edge)
            elif edge.target not in found:
                found.add(edge.target)
                stack.append(edge.target)
    return found


def _listeners(nodes: Iterable[NodeSpec]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for node in nodes:
        if node.signal is not None:
            found.setdefault(node.signal.name, []).append(node.id)
    return {name: tuple(ids) for name, ids in found.items()}


def _written(nodes: Iterable[NodeSpec], edges: Iterable[Edge]) -> Iterator[str]:
    """The keys of the state that something in the definition writes."""
    merges = (merge.target for edge in edges if edge.join is not None for merge in edge.join.merges)
    outputs = (target for node in nodes for target, _ in node.output)
    return (target.path[0] for target in (*merges, *outputs) if target.root == "state")


def _tiers(edges: tuple[Edge, ...]) -> dict[tuple[str, str], tuple[tuple[Edge, ...], ...]]:
    found: dict[tuple[str, str], dict[int, list[Edge]]] = {}
    for edge in edges:
        found.setdefault((edge.source, edge.trigger.outcome), {}).setdefault(edge.priority, []).append(edge)
    return {key: tuple(tuple(tiers[priority]) for priority in sorted(tiers)) for key, tiers in found.items()}


def compile_graph(definition: models.WorkflowDefinition) -> Graph:
    """The graph of a definition; raises `ExpressionError` or `DefinitionError` where `validation.check` would have too."""
    names = frozenset(t.item for t in definition.transitions if t.foreach is not None)
    edges = _edges(definition.transitions, names)
    nodes = {node.id: compile_node(node, names) for node in definition.nodes}
    targets = {edge.target for edge in edges}
    start = definition.start or tuple(node for node in nodes if node not in targets)
    undos = [undo for node in definition.nodes if (undo := compile_undo(node, names)) is not None]
    return Graph(
        nodes=nodes | {undo.id: undo for undo in undos},
        edges=edges,
        start=start,
        output=tuple((name, compile_expression(text, names)) for name, text in definition.output.items()),
        timeout_us=in_us(definition.timeout_s),
        state_schema=definition.state,
        max_depth=definition.max_depth,
    )


def _edges(transitions: tuple[models.Transition, ...], names: frozenset[str]) -> tuple[Edge, ...]:
    seen: Counter[tuple[str, str]] = Counter()
    edges = []
    for order, t in enumerate(transitions):
        seen[t.source, t.target] += 1
        nth = seen[t.source, t.target]
        edges.append(_edge(t, order, f"{t.source}->{t.target}" + (f"#{nth}" if nth > 1 else ""), names))
    return tuple(edges)


def _edge(t: models.Transition, order: int, edge_id: str, names: frozenset[str]) -> Edge:
    return Edge(
        id=edge_id,
        order=order,
        source=t.source,
        target=t.target,
        priority=t.priority,
        when=None if t.when is None else compile_expression(t.when, names),
        trigger=parse_trigger(t.on),
        spawn_count=compile_expression(t.spawn_count, names) if isinstance(t.spawn_count, str) else t.spawn_count,
        foreach=None if t.foreach is None else compile_expression(t.foreach, names),
        item=t.item,
        group=t.group,
        max_concurrency=t.max_concurrency,
        tolerated=t.tolerated_failures,
        max_iterations=t.max_iterations,
        join=None if t.join is None else _join(t.target, t.join, names),
        race=t.race,
        open=t.open,
        cancel=t.cancel,
        cancel_groups=t.cancel_groups,
        complete_groups=t.complete_groups,
        close_groups=t.close_groups,
        has_effects=bool(t.cancel or t.cancel_groups or t.complete_groups or t.close_groups),
    )


def _join(node: str, join: models.Join, names: frozenset[str]) -> JoinSpec:
    return JoinSpec(
        node=node,
        over=join.over,
        strategy=join.strategy,
        m=compile_expression(join.m, names | GROUP_NAMES) if isinstance(join.m, str) else join.m,
        remaining=join.remaining,
        merges=tuple(
            MergeSpec(parse_target(merge.target), compile_expression(merge.source, names), merge.strategy) for merge in join.merge
        ),
        blocking=join.blocking,
        timeout_us=in_us(join.timeout_s),
        proceeds=join.on_timeout == "proceed_with_available",
    )
