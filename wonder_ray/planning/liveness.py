"""Which transitions a live token of a branch can still come over: what a join over `incoming` needs to know (rule R5).

Nodes that lie on a common cycle form a component. A component is *alive* in a branch while it holds a live token, or a
live component leads into it. That is kept by counters, one per component and branch, so that a run pays for each
transition once; only within a cycle is the graph searched.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from wonder_ray.definitions.graph import INCOMING
from wonder_ray.state import incoming_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from wonder_ray.definitions.graph import Edge, Graph
    from wonder_ray.run_places import Places
    from wonder_ray.run_state import RunState


class Components:
    """The ways that tokens take within one branch, and their strongly connected components: a pure function of a graph.

    A transition that opens a group leads, within the branch, to where the group's join puts a token; one that joins over a
    group leaves the branch.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: dict[str, list[str]] = {node: self._steps(node) for node in graph.nodes}
        """Node -> the nodes that a token of the same branch may come to next."""
        self.of = _components(self.steps)
        """Node -> component number."""
        self.cyclic = {self.of[node] for node, targets in self.steps.items() for t in targets if self.of[t] == self.of[node]}
        self.entering: dict[int, list[tuple[int, str]]] = {}
        """Component -> (component, node): which others lead into it, and where to."""
        self.leaving: dict[int, list[int]] = {}
        """Component -> the components that it leads into, one entry per way."""
        for node, targets in self.steps.items():
            for target in targets:
                if self.of[node] != self.of[target]:
                    self.leaving.setdefault(self.of[node], []).append(self.of[target])
                    self.entering.setdefault(self.of[target], []).append((self.of[node], target))
        self._forward: dict[str, list[str]] | None = None
        self.after_groups: dict[str, dict[str, tuple[str, ...]]] = {}
        """Node -> group that it opens -> the nodes that this group, while open, can still put a token on."""
        for edge in graph.edges:
            if edge.group is not None:
                self.after_groups.setdefault(edge.source, {})[edge.group] = self._after_group(edge.source, edge.group)

    def _steps(self, node: str) -> list[str]:
        found = []
        for edge in self.graph.outgoing[node]:
            if edge.group is not None:
                join = self.graph.group_joins.get(edge.group)
                if join is not None:
                    found.append(join.node)
            elif edge.join is None or edge.join.over == INCOMING:
                found.append(edge.target)
        return list(dict.fromkeys(found))

    def _after_group(self, opener_node: str, name: str) -> tuple[str, ...]:
        join = self.graph.group_joins.get(name)
        handlers = [
            edge.target
            for edge in self.graph.outgoing[opener_node]
            if edge.group is None and edge.trigger.outcome == "group_failed" and edge.trigger.group == name
        ]
        return (*(() if join is None else (join.node,)), *handlers)

    def first_of(self, nodes: Collection[str]) -> set[str]:
        """Those of these nodes that lie behind no other of them, loops being cut where they lead back."""
        if self._forward is None:
            self._forward = _without_ways_back(self.steps, self.graph.start)
        later: set[str] = set()
        for node in nodes:
            stack = [target for target in self._forward[node] if target not in later]
            later.update(stack)
            while stack:
                for target in self._forward[stack.pop()]:
                    if target not in later:
                        later.add(target)
                        stack.append(target)
        return {node for node in nodes if node not in later}

    def leading_to(self, nodes: Iterable[str], without: str) -> set[str]:
        """The nodes from which one of these can be reached (themselves included) without passing through one node."""
        before: dict[str, list[str]] = {}
        for node, targets in self.steps.items():
            for target in targets:
                before.setdefault(target, []).append(node)
        stack = [node for node in nodes if node != without]
        found = set(stack)
        while stack:
            for node in before.get(stack.pop(), ()):
                if node != without and node not in found:
                    found.add(node)
                    stack.append(node)
        return found


class Liveness:
    """Which components are alive in one branch; brought up to date from the state's list of what was touched."""

    def __init__(self, components: Components, places: Places, scope_id: str) -> None:
        self._components = components
        self._scope_id = scope_id
        self._held: set[tuple[str, ...]] = set()
        """What counts as a hold on a component: (node) with live tokens, (node, group, node after it) of open groups."""
        self._support: dict[int, int] = {}
        self.died: dict[int, None] = {}
        """Components that have died since this was last looked at."""
        nodes = dict.fromkeys(places.at.get(scope_id, ()))
        nodes.update(dict.fromkeys(node for node, _ in places.groups.get(scope_id, ())))
        self.update(places, nodes)

    def update(self, places: Places, nodes: Iterable[str]) -> None:
        """Count again what stands at these nodes, and follow what comes to life or dies of it."""
        of = self._components.of
        live = places.at.get(self._scope_id, {})
        groups = places.groups.get(self._scope_id, {})
        born: deque[tuple[int, int]] = deque()
        died: list[tuple[int, int]] = []

        def hold(key: tuple[str, ...], node: str, *, present: bool) -> None:
            if present is (key in self._held):
                return
            if present:
                self._held.add(key)
                born.append((of[node], 1))
            else:
                self._held.discard(key)
                died.append((of[node], -1))

        for node in nodes:
            hold((node,), node, present=node in live)
            for name, targets in self._components.after_groups.get(node, {}).items():
                for target in targets:
                    hold((node, name, target), target, present=(node, name) in groups)
        born.extend(died)
        self._propagate(born)

    def _propagate(self, changes: deque[tuple[int, int]]) -> None:
        """Births come before deaths, so that what merely moves on does not seem to die on the way."""
        support = self._support
        while changes:
            component, change = changes.popleft()
            before = support.get(component, 0)
            support[component] = before + change
            if bool(before) == bool(before + change):
                continue
            if change < 0:
                self.died[component] = None
            changes.extend((target, change) for target in self._components.leaving.get(component, ()))

    def alive(self, component: int) -> bool:
        """Whether a live token can still pass through a component."""
        return self._support.get(component, 0) > 0

    def open_edges(self, state: RunState, edges: Iterable[Edge]) -> Iterator[Edge]:
        """Those of these transitions, all into one node, that a live token can still come over without passing through it."""
        of = self._components.of
        reached: set[str] | None = None
        for edge in edges:
            component = of[edge.source]
            if edge.group is not None:
                continue
            if self._may_fail(state, edge):
                yield edge
            elif component != of[edge.target] or component not in self._components.cyclic:
                if self.alive(component):
                    yield edge
            else:
                if reached is None:
                    reached = self._reached_in_cycle(state, component, edge.target)
                if edge.source in reached:
                    yield edge

    def _may_fail(self, state: RunState, edge: Edge) -> bool:
        """Whether the transition waits for the failure of a group that is open."""
        places, name = state.index.places, edge.trigger.group
        return name is not None and places is not None and (edge.source, name) in places.groups.get(self._scope_id, ())

    def _reached_in_cycle(self, state: RunState, component: int, join_node: str) -> set[str]:
        """The nodes of a cycle whose work may still lead on, the join's own queues being closed.

        What works at the join's node has passed the join and counts; what waits there does not.
        """
        of = self._components.of
        places = state.index.places
        live = places.at.get(self._scope_id, {}) if places is not None else {}
        groups = places.groups.get(self._scope_id, {}) if places is not None else {}
        reached = {node for node in live if of[node] == component and node != join_node}
        if len(live.get(join_node, ())) > len(state.index.arrivals.get(incoming_id(join_node, self._scope_id), ())):
            reached.add(join_node)
        for opener, name in groups:
            after = self._components.after_groups.get(opener, {}).get(name, ())
            reached.update(node for node in after if of[node] == component and node != join_node)
        for source, node in self._components.entering.get(component, ()):
            if node != join_node and self.alive(source):
                reached.add(node)
        stack = list(reached)
        while stack:
            for target in self._components.steps[stack.pop()]:
                if of[target] == component and target != join_node and target not in reached:
                    reached.add(target)
                    stack.append(target)
        return reached


def _without_ways_back(steps: dict[str, list[str]], start: Iterable[str]) -> dict[str, list[str]]:
    """The graph without the ways that lead back to where one came from: what a search in depth from the start nodes leaves."""
    forward: dict[str, list[str]] = {node: [] for node in steps}
    entered: set[str] = set()
    left: set[str] = set()
    for root in (*start, *steps):
        if root in entered:
            continue
        entered.add(root)
        work = [(root, iter(steps[root]))]
        while work:
            node, targets = work[-1]
            target = next(targets, None)
            if target is None:
                work.pop()
                left.add(node)
            elif target not in entered:
                forward[node].append(target)
                entered.add(target)
                work.append((target, iter(steps[target])))
            elif target in left:
                forward[node].append(target)
    return forward


def _components(steps: dict[str, list[str]]) -> dict[str, int]:
    """Tarjan's algorithm, without recursion: definitions may be thousands of nodes deep."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    component: dict[str, int] = {}
    stack: list[str] = []
    for root, first in steps.items():
        if root in order:
            continue
        work = [(root, iter(first))]
        order[root] = low[root] = len(order)
        stack.append(root)
        while work:
            node, targets = work[-1]
            target = next((target for target in targets if target not in component), None)
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
                work.append((target, iter(steps[target])))
    return component


def _close_component(node: str, stack: list[str], component: dict[str, int], number: int) -> None:
    while True:
        member = stack.pop()
        component[member] = number
        if member == node:
            return
