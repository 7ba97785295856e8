"""Joins over `incoming`: one queue per incoming transition, fired when nothing more can come over the empty ones (rule R5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.decisions import ActivateFanIn, CreateToken, Decision, MergeBranches
from wonder_ray.errors import ExpressionError
from wonder_ray.ids import derive_id
from wonder_ray.planning.failing import escalate
from wonder_ray.planning.liveness import Components, Liveness
from wonder_ray.planning.merging import branch_order, check_writes, merge_writes
from wonder_ray.planning.routing import expression_failure
from wonder_ray.state import ROOT_PATH, ROOT_SCOPE, Token, incoming_id

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import Edge, Graph, JoinSpec
    from wonder_ray.run_state import RunState


class IncomingJoins:
    """Decides about joins over `incoming`. What it keeps between calls is a cache: it can be dropped at any time."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._components = Components(graph)
        self._liveness: dict[str, Liveness] = {}
        self._blocked_by: dict[str, Edge] = {}
        """Join -> a transition over which something could still come when it was last looked at."""
        self._fed_by: dict[int, dict[str, None]] = {}
        """Component -> the joins that its transitions lead to."""
        for node in graph.incoming_joins:
            for edge in graph.incoming[node]:
                self._fed_by.setdefault(self._components.of[edge.source], {})[node] = None
        self._cyclic_joins = tuple(n for n in graph.incoming_joins if self._components.of[n] in self._components.cyclic)

    def settle(self, state: RunState) -> list[Decision]:
        """The next join that fires, if any."""
        scopes = dict.fromkeys(state.index.touched_nodes)
        candidates = self._candidates(state)
        for join_id in candidates:
            first = state.tokens[next(iter(state.index.arrivals[join_id]))]
            scopes[first.scope_id] = None
            if not self._blocked(state, join_id, first):
                state.index.touched_joins.update(candidates)
                return self._fire(state, join_id, first)
        for scope_id in scopes:
            oldest = self._oldest_rival(state, scope_id)
            if oldest is not None:
                return self._fire(state, incoming_id(oldest.node_id, scope_id), oldest)
        return []

    def _candidates(self, state: RunState) -> dict[str, None]:
        """Joins with arrivals for which something may have changed."""
        index = state.index
        found = dict.fromkeys(index.touched_joins)
        index.touched_joins.clear()
        touched, index.touched_nodes = index.touched_nodes, {}
        for scope_id, nodes in touched.items():
            liveness = self._liveness.get(scope_id)
            if liveness is None:
                continue
            liveness.update(state, nodes)
            if not index.busy[scope_id] and not any(index.live_at.get(scope_id, {}).values()):
                del self._liveness[scope_id]
                continue
            for component in liveness.died:
                found.update(dict.fromkeys(self._joins_after(component, scope_id)))
            liveness.died.clear()
            found.update(dict.fromkeys(incoming_id(node, scope_id) for node in self._cyclic_joins))
        return {join_id: None for join_id in found if index.arrivals.get(join_id)}

    def _joins_after(self, component: int, scope_id: str) -> list[str]:
        return [incoming_id(node, scope_id) for node in self._fed_by.get(component, ())]

    def _blocked(self, state: RunState, join_id: str, first: Token) -> bool:
        liveness = self._liveness.get(first.scope_id)
        if liveness is None:
            liveness = self._liveness[first.scope_id] = Liveness(self._components, state, first.scope_id)
        queues = state.index.queues[join_id]
        witness = self._blocked_by.get(join_id)
        if witness is not None and not queues.get(witness.id) and liveness.can_come_over(state, witness):
            return True
        for edge in self._graph.incoming[first.node_id]:
            if not queues.get(edge.id) and liveness.can_come_over(state, edge):
                self._blocked_by[join_id] = edge
                return True
        self._blocked_by.pop(join_id, None)
        return False

    def _oldest_rival(self, state: RunState, scope_id: str) -> Token | None:
        """Where a branch holds nothing but joins that wait for each other: the one whose first arrival is the oldest."""
        if state.index.busy[scope_id]:
            return None
        rivals = []
        for node, count in state.index.live_at.get(scope_id, {}).items():
            waiting = state.index.arrivals.get(incoming_id(node, scope_id)) if count else None
            if waiting:
                rivals.append(state.tokens[next(iter(waiting))])
        return min(rivals, key=lambda token: token.ordinal, default=None)

    def _fire(self, state: RunState, join_id: str, first: Token) -> list[Decision]:
        join = self._graph.incoming_joins[first.node_id]
        queues = state.index.queues[join_id]
        taken = [
            state.tokens[next(iter(queue))] for edge in self._graph.incoming[join.node] if (queue := queues.get(edge.id))
        ]
        branch = state.tokens.get(first.scope_id)
        path_id = branch.path_id if branch is not None and first.scope_id != ROOT_SCOPE else ROOT_PATH
        fan_in = ActivateFanIn(
            join_id=join_id, node_id=join.node, token_ids=tuple(token.id for token in taken), arrivals=len(taken)
        )
        try:
            merged = self._merged(state, join_id, join, first, taken, path_id)
        except ExpressionError as error:
            failure = expression_failure(error, join.node, "join over incoming")
            return [fan_in, *escalate(state, self._graph, first.group_id, failure, token_id=first.id)]
        decisions: list[Decision] = [*merged, fan_in]
        decisions.append(
            CreateToken(
                token_id=derive_id("t", "join", *(token.id for token in taken)),
                node_id=join.node,
                path_id=path_id,
                parent_id=first.id,
                scope_id=first.scope_id,
                group_id=first.group_id,
                fanout_id=branch.fanout_id if branch is not None else None,
                index=branch.index if branch is not None else None,
            )
        )
        return decisions

    def _merged(  # noqa: PLR0913 - what makes up one merge
        self, state: RunState, join_id: str, join: JoinSpec, first: Token, taken: list[Token], path_id: str
    ) -> list[Decision]:
        if not join.merges:
            return []
        writes = merge_writes(state, self._in_order(taken), join.merges, path_id)
        check_writes(state, first.scope_id, writes)
        return [MergeBranches(join_id=join_id, node_id=join.node, scope_id=first.scope_id, writes=writes, branches=len(taken))]

    def _in_order(self, taken: list[Token]) -> list[Token]:
        order = self._graph.edge
        return sorted(taken, key=lambda token: (order[token.transition_id or ""].order, branch_order(token)))
