"""Which steps need not be tried in every order (a partial-order reduction with sets of one token).

A step is *local* when it commutes with whatever others can do before it: it ends a token and makes others, opens groups,
arrives at joins that wait for all. Where a token's next step is local, only that token is moved; else all are. What others do to
it (a join or a failure that cancels it) comes to the same before and after. A step that may lead back in a loop is not local, so
that every circle of states has one at which all tokens are moved, and none is put off for ever.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from wonder_ray.definitions.graph import INCOMING
from wonder_ray.planning.liveness import Components

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wonder_ray.definitions.graph import Edge, Graph
    from wonder_ray.soundness.outcomes import OpenGroups, Outcome
    from wonder_ray.state import Token


COMPUTED_MAX: Final = 100
"""Longer chains of computed nodes are not looked through."""


class Reduction:
    """Chooses the tokens that are moved in a state."""

    def __init__(self, graph: Graph, outcomes: Mapping[str, Sequence[Outcome]], open_groups: OpenGroups) -> None:
        self._graph = graph
        self._open_groups = open_groups
        joins = graph.group_joins.items()
        partial = {name for name, join in joins if join.strategy != "all" or join.blocking or join.timeout_us is not None}
        self._affected = open_groups.bits(
            {g for e in graph.edges for g in (*e.cancel_groups, *e.complete_groups, *e.close_groups)}
        )
        self._cancelled = frozenset(node for edge in graph.edges for node in edge.cancel)
        self._partial = {name: open_groups.bits([name]) for name in partial}
        self._any_partial = open_groups.bits(partial)
        components = Components(graph) if graph.incoming_joins else None
        self._cyclic_joins = frozenset(
            node for node in graph.incoming_joins if components is not None and components.of[node] in components.cyclic
        )
        self._back = _ways_back(graph)
        self._computed = frozenset(node.id for node in graph.nodes.values() if node.kind == "compute")
        self._local = frozenset(node for node in outcomes if self._is_local(node, outcomes[node]))
        self._counting = frozenset(node for node in self._local if any(e.max_iterations is not None for e in self._edges(node)))
        self._to_the_end = graph.leading_to(node.id for node in graph.nodes.values() if node.kind == "terminate")

    def choose(self, tokens: Sequence[Token], live: Sequence[Token]) -> Token | None:
        """The one of the tokens that is moved here, unless all are.

        What may come to end the run goes first, since it is of interest what it cuts off.
        """
        beside = Counter(token.scope_id for token in live)
        ending = [token for token in tokens if token.node_id in self._to_the_end]
        if len(ending) > 1:
            return None
        for token in ending or tokens:
            if token.node_id in self._local and (token.node_id not in self._counting or beside[token.scope_id] == 1):
                return token
        return None

    def _is_local(self, node: str, outcomes: Sequence[Outcome]) -> bool:
        within = self._within(node)
        if len(within) > COMPUTED_MAX or any(self._graph.nodes[at].mutex for at in within):
            return False
        failures = [outcome for outcome in outcomes if outcome.error is not None]
        if any(edge.race for edge in self._graph.incoming[node]):
            return False  # its end withdraws its rivals
        if not self._cancelled.isdisjoint(within) or any(self._open_groups.any_at(at, self._affected) for at in within):
            return False  # it makes a difference whether an effect comes before or after
        if failures and not self._handles_all(node):
            return False
        if any(self._graph.nodes[at].output and not self._handles_all(at) for at in within):
            return False  # it may fail, too
        if any(self._may_end(at) and self._open_groups.any_at(at, self._any_partial) for at in within):
            return False  # a join that counts may fail for it, and end others before they have begun
        return all(self._is_plain(edge) for edge in self._edges(node))

    def _may_end(self, node: str) -> bool:
        """Whether a token may end at a node without a successor."""
        return not any(
            e.trigger.outcome == "completed" and e.when is None and e.max_iterations is None and not e.fans_out
            for e in self._graph.outgoing[node]
        )

    def _handles_all(self, node: str) -> bool:
        """Whether every failure is routed at the node itself."""
        return any(
            e.trigger.outcome == "failed" and e.trigger.error_type is None and e.when is None and e.max_iterations is None
            for e in self._graph.outgoing[node]
        )

    def _within(self, node: str) -> list[str]:
        """The node, and those that are computed in the same turn after it."""
        found = {node: None}
        stack = [node]
        while stack and len(found) <= COMPUTED_MAX:
            for edge in self._graph.outgoing[stack.pop()]:
                if edge.target in self._computed and edge.target not in found:
                    found[edge.target] = None
                    stack.append(edge.target)
        return list(found)

    def _edges(self, node: str) -> list[Edge]:
        return [edge for at in self._within(node) for edge in self._graph.outgoing[at] if edge.trigger.group is None]

    def _is_plain(self, edge: Edge) -> bool:
        target = self._graph.nodes[edge.target]
        if edge.id in self._back or edge.has_effects or edge.race or edge.open or target.mutex or target.kind == "terminate":
            return False
        if edge.group in self._partial and self._open_groups.any_at(edge.source, self._partial[edge.group]):
            return False
        join = edge.join
        if join is None:
            return True
        if join.strategy != "all" or join.blocking or join.timeout_us is not None:
            return False
        return join.over != INCOMING or edge.target not in self._cyclic_joins


def _ways_back(graph: Graph) -> frozenset[str]:
    """The transitions that lead back to where a search in depth came from: every loop has one."""
    back: set[str] = set()
    entered: set[str] = set()
    left: set[str] = set()
    for root in (*graph.start, *graph.nodes):
        if root in entered:
            continue
        entered.add(root)
        work = [(root, iter(graph.outgoing[root]))]
        while work:
            node, edges = work[-1]
            edge = next(edges, None)
            if edge is None:
                work.pop()
                left.add(node)
            elif edge.target not in entered:
                entered.add(edge.target)
                work.append((edge.target, iter(graph.outgoing[edge.target])))
            elif edge.target not in left:
                back.add(edge.id)
    return frozenset(back)
