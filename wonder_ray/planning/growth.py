"""Whether a sibling group can still get more members: what decides that a join can no longer be met (rule R4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import Edge, Graph, JoinSpec
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Group

_CHANGING = frozenset({"state", "output", "group", "results"})


class Growth:
    """From where in a graph a split can be reached before a group's join. A pure function of the graph, found when asked for."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._growing: dict[str, frozenset[str]] = {}

    def possible(self, state: RunState, group: Group, join: JoinSpec) -> bool:
        """Whether more arrivals may come than there are live members, or fewer be asked for."""
        m = join.m
        if m is not None and not isinstance(m, int) and not m.names.isdisjoint(_CHANGING):
            return True
        if group.id in state.index.inner:
            return True
        growing = self._growing.get(group.name)
        if growing is None:
            growing = self._growing[group.name] = self._find(group.name)
        arrived = state.index.arrivals.get(group.id, ())
        members = state.index.members.get(group.id, ())
        return any(state.tokens[token_id].node_id in growing for token_id in members if token_id not in arrived)

    def _find(self, name: str) -> frozenset[str]:
        """The nodes from which a split can be reached without joining over the group."""
        stack = [node for node in self._graph.nodes if self._splits(node)]
        found = set(stack)
        while stack:
            for edge in self._graph.incoming[stack.pop()]:
                joins = edge.join is not None and edge.join.over == name
                if not joins and edge.source not in found:
                    found.add(edge.source)
                    stack.append(edge.source)
        return frozenset(found)

    def _splits(self, node: str) -> bool:
        tiers: dict[tuple[str, int], Edge] = {}
        for edge in self._graph.outgoing[node]:
            tier = (edge.trigger.outcome, edge.priority)
            if edge.fans_out or tier in tiers:
                return True
            tiers[tier] = edge
        return False
