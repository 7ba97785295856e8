"""Which transitions a live token of a branch can still come over: what a join over `incoming` needs to know (rule R5).

Nodes that lie on a common cycle form a component. A component is *alive* in a branch while it holds a live token, or a
live component leads into it. That is kept by counters, one per component and branch, so that a run pays for each
transition once; only within a cycle is the graph searched.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wonder_ray.definitions.graph import Edge, Graph
    from wonder_ray.run_state import RunState


class Components:
    """The strongly connected components of a graph: a pure function of it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.of = _components(graph)
        """Node -> component number."""
        self.cyclic: set[int] = _cyclic(graph, self.of)
        self.entering: dict[int, list[Edge]] = {}
        """Component -> the transitions that lead into it from others."""
        self.leaving: dict[int, list[int]] = {}
        """Component -> the components that its transitions lead into, one entry per transition."""
        for edge in graph.edges:
            if self.of[edge.source] != self.of[edge.target]:
                self.leaving.setdefault(self.of[edge.source], []).append(self.of[edge.target])
                self.entering.setdefault(self.of[edge.target], []).append(edge)

    def after_group(self, opener_node: str, name: str) -> Iterator[str]:
        """The nodes that an open group can still put a token on: its join's, and those of `group_failed` transitions."""
        join = self.graph.group_joins.get(name)
        if join is not None:
            yield join.node
        for edge in self.graph.outgoing[opener_node]:
            if edge.trigger.outcome == "group_failed" and edge.trigger.group == name:
                yield edge.target


class Liveness:
    """Which components are alive in one branch; brought up to date from the state's list of what was touched."""

    def __init__(self, components: Components, state: RunState, scope_id: str) -> None:
        self._components = components
        self._scope_id = scope_id
        self._held: dict[str, int] = {}
        """Node -> what it was last counted with (live tokens and groups that can come back to it), as 0 or 1."""
        self._support: dict[int, int] = {}
        self.died: dict[int, None] = {}
        """Components that have died since this was last looked at."""
        index = state.index
        nodes = list(index.live_at.get(scope_id, ()))
        nodes.extend(node for node, _ in index.open_groups.get(scope_id, ()))
        self.update(state, nodes)

    def update(self, state: RunState, nodes: Iterable[str]) -> None:
        """Count again what stands at these nodes, and follow what comes to life or dies of it."""
        live = state.index.live_at.get(self._scope_id, {})
        groups = state.index.open_groups.get(self._scope_id, {})
        pending: deque[tuple[int, int]] = deque()
        for node in nodes:
            self._hold(("at", node), self._components.of[node], bool(live.get(node)), pending)
            for (opener, name), count in groups.items():
                if opener == node:
                    for i, target in enumerate(self._components.after_group(opener, name)):
                        self._hold((name, node, str(i)), self._components.of[target], bool(count), pending)
        self._propagate(pending)

    def _hold(self, key: tuple[str, ...], component: int, present: bool, pending: deque[tuple[int, int]]) -> None:  # noqa: FBT001 - a state
        name = "\x1f".join(key)
        if bool(self._held.get(name)) != present:
            self._held[name] = int(present)
            pending.append((component, 1 if present else -1))

    def _propagate(self, pending: deque[tuple[int, int]]) -> None:
        """Births before deaths, so that what merely moves on does not seem to die on the way."""
        pending = deque(sorted(pending, key=lambda change: -change[1]))
        while pending:
            component, change = pending.popleft()
            before = self._support.get(component, 0)
            self._support[component] = before + change
            if bool(before) == bool(before + change):
                continue
            if change < 0:
                self.died[component] = None
            pending.extend((target, change) for target in self._components.leaving.get(component, ()))

    def alive(self, component: int) -> bool:
        """Whether a live token can still pass through a component."""
        return self._support.get(component, 0) > 0

    def can_come_over(self, state: RunState, edge: Edge) -> bool:
        """Whether a live token can still reach a join over this transition without passing through the join's node."""
        of = self._components.of
        component = of[edge.source]
        if component != of[edge.target] or component not in self._components.cyclic:
            return self.alive(component)
        return edge.source in self._reached_in_cycle(state, component, edge.target)

    def _reached_in_cycle(self, state: RunState, component: int, join_node: str) -> set[str]:
        """The nodes of a cycle that something live can reach, the join's node being closed."""
        of = self._components.of
        graph = self._components.graph
        live = state.index.live_at.get(self._scope_id, {})
        groups = state.index.open_groups.get(self._scope_id, {})
        reached = {node for node, count in live.items() if count and of[node] == component and node != join_node}
        for (opener, name), count in groups.items():
            if count:
                reached.update(n for n in self._components.after_group(opener, name) if of[n] == component and n != join_node)
        for edge in self._components.entering.get(component, ()):
            if edge.target != join_node and self.alive(of[edge.source]):
                reached.add(edge.target)
        stack = list(reached)
        while stack:
            for edge in graph.outgoing[stack.pop()]:
                if of[edge.target] == component and edge.target != join_node and edge.target not in reached:
                    reached.add(edge.target)
                    stack.append(edge.target)
        return reached


def _components(graph: Graph) -> dict[str, int]:
    """Tarjan's algorithm, without recursion: definitions may be thousands of nodes deep."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    component: dict[str, int] = {}
    stack: list[str] = []
    for root in graph.nodes:
        if root in order:
            continue
        work = [(root, iter(graph.outgoing[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        while work:
            node, edges = work[-1]
            target = next((e.target for e in edges if e.target not in order or e.target not in component), None)
            if target is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    _close_component(node, stack, component, order[node])
            elif target in order:
                low[node] = min(low[node], order[target])
            else:
                order[target] = low[target] = len(order)
                stack.append(target)
                work.append((target, iter(graph.outgoing[target])))
    return component


def _close_component(node: str, stack: list[str], component: dict[str, int], number: int) -> None:
    while True:
        member = stack.pop()
        component[member] = number
        if member == node:
            return


def _cyclic(graph: Graph, of: dict[str, int]) -> set[int]:
    return {of[edge.source] for edge in graph.edges if of[edge.source] == of[edge.target]}
