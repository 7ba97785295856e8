"""Joins over `incoming`: one queue per incoming transition (rule R5).

`all` fires, taking one from each queue that holds something, when nothing can come any more over the transitions of the others.
`any` and `m_of_n` fire as soon as enough queues hold something. What comes over the other transitions then still belongs to that
round, and follows the join's `remaining`; what comes over one that was taken waits for the next round. A round is over when every
transition was taken, or can bring nothing more. With `cancel`, what could still come is withdrawn, and the round is over at once.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from wonder_ray.decisions import (
    AbsorbArrivals,
    ActivateFanIn,
    CancelTokens,
    CreateToken,
    Decision,
    MergeBranches,
    ResetFanIn,
)
from wonder_ray.errors import ExpressionError
from wonder_ray.ids import derive_id
from wonder_ray.planning.admission import inherited
from wonder_ray.planning.cancelling import cancel_in_scope
from wonder_ray.planning.failing import escalate
from wonder_ray.planning.liveness import Components, Liveness
from wonder_ray.planning.merging import check_writes, merge_writes
from wonder_ray.planning.scope import branch_order, evaluate_count, expression_failure, expression_scope
from wonder_ray.state import ROOT_PATH, ErrorRecord, Token, incoming_id, incoming_place

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from wonder_ray.definitions.graph import Edge, Graph, JoinSpec
    from wonder_ray.run_places import Places
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
        self._cyclic = frozenset(n for n in graph.incoming_joins if self._components.of[n] in self._components.cyclic)
        """Joins that lie on cycles: they are looked at whenever anything moves in their branch."""
        self._cyclic_partial = tuple(
            n for n, join in graph.incoming_joins.items() if n in self._cyclic and join.strategy != "all"
        )

    def forget(self) -> None:
        """Drop what was kept between calls."""
        self._liveness.clear()
        self._blocked_by.clear()

    def settle(self, state: RunState) -> list[Decision]:
        """What the next join does that does something."""
        index = state.index
        if index.places is None:
            index.follow_places()
        if index.places is None or not (index.touched_joins or index.places.touched):
            return []
        touched, index.places.touched = index.places.touched, {}
        decisions = self._next(state, index.places, touched)
        if decisions and self._cyclic:  # each of the other branches may hold nothing but rivals
            for scope_id in touched:
                index.places.touched.setdefault(scope_id, {})
        return decisions

    def _next(self, state: RunState, places: Places, touched: dict[str, dict[str, None]]) -> list[Decision]:
        candidates = self._candidates(state, places, touched)
        while candidates:
            join_id = next(iter(candidates))
            del candidates[join_id]
            decisions = self._decide(state, join_id, incoming_place(join_id)[1])
            if decisions:
                state.index.touched_joins.update(candidates)
                return decisions
        for scope_id in sorted(touched):
            oldest = self._oldest_rival(state, places, scope_id)
            if oldest is not None:
                return self._decide(state, incoming_id(oldest.node_id, scope_id), scope_id, last=True)
        return []

    def timed_out(self, state: RunState, join_id: str) -> list[Decision]:
        """A join's first arrival has waited long enough: it goes on with what there is, or fails.

        If a round is open, what waits belongs to the next one, which then comes first; the open round keeps its late arrivals.
        """
        join = self._graph.incoming_joins[incoming_place(join_id)[0]]
        queues = state.index.queues[join_id]
        waited = (
            f"the join over incoming at node {join.node!r} has waited for its timeout_s of {(join.timeout_us or 0) / 1e6:g} s"
        )
        if join.proceeds:
            try:
                return self._fire(state, join_id, join, queues)
            except ExpressionError as error:
                return self._give_up(state, join_id, expression_failure(error, join.node, "join over incoming"))
        return self._give_up(state, join_id, ErrorRecord("JoinTimeout", waited, retryable=False, kind="join", node_id=join.node))

    # --- what is looked at ---------------------------------------------------------------------------------------

    def _candidates(self, state: RunState, places: Places, touched: dict[str, dict[str, None]]) -> dict[str, None]:
        """Joins that hold something and for which something may have changed, in an order that does not depend on when it did."""
        index = state.index
        found, index.touched_joins = index.touched_joins, {}
        for join_id in found:
            touched.setdefault(incoming_place(join_id)[1], {})
        for scope_id, nodes in touched.items():
            liveness = self._liveness.get(scope_id)
            if liveness is None:
                continue
            liveness.update(places, nodes)
            for component in liveness.died:
                found.update(dict.fromkeys(incoming_id(node, scope_id) for node in self._fed_by.get(component, ())))
            liveness.died.clear()
            if self._cyclic:
                found.update(dict.fromkeys(incoming_id(n, scope_id) for n in places.at.get(scope_id, ()) if n in self._cyclic))
            if state.rounds:
                found.update(dict.fromkeys(incoming_id(n, scope_id) for n in self._cyclic_partial))
            if scope_id not in places.at and scope_id not in places.groups:
                del self._liveness[scope_id]
        return {join_id: None for join_id in sorted(found) if join_id in index.arrivals or join_id in state.rounds}

    def _oldest_rival(self, state: RunState, places: Places, scope_id: str) -> Token | None:
        """Where a branch holds nothing but joins that wait for each other: the first arrival at the one to fire.

        That is one that lies behind no other (so that within a loop the inner of two joins fires before the outer, in whatever
        order their arrivals came), and of those the one whose first arrival is the oldest.
        """
        if scope_id in places.busy:
            return None
        waiting = [state.index.arrivals[incoming_id(node, scope_id)] for node in places.at.get(scope_id, ())]
        rivals = [state.tokens[next(iter(tokens))] for tokens in waiting]
        if len(rivals) > 1:
            first = self._components.first_of({token.node_id for token in rivals})
            rivals = [token for token in rivals if token.node_id in first]
        return min(rivals, key=lambda token: token.ordinal, default=None)

    def _open_edges(self, state: RunState, scope_id: str, edges: Iterable[Edge]) -> Iterable[Edge]:
        """Those of a join's transitions over which something can still come."""
        places = state.index.places
        if places is None or (scope_id not in places.busy and scope_id not in places.at):
            return ()
        liveness = self._liveness.get(scope_id)
        if liveness is None:
            liveness = self._liveness[scope_id] = Liveness(self._components, places, scope_id)
        return liveness.open_edges(state, edges)

    # --- what a join does ----------------------------------------------------------------------------------------

    def _decide(self, state: RunState, join_id: str, scope_id: str, *, last: bool = False) -> list[Decision]:
        """What one join does now; `last` when nothing but joins that wait for each other is left in its branch."""
        join = self._graph.incoming_joins[incoming_place(join_id)[0]]
        if join_id in state.rounds:
            return self._go_on(state, join_id, scope_id, join, last=last)
        queues = state.index.queues[join_id]
        first = state.tokens[next(iter(state.index.arrivals[join_id]))]
        try:
            if join.strategy == "all":
                return (
                    []
                    if not last and self._blocked(state, join_id, scope_id, queues)
                    else self._fire(state, join_id, join, queues)
                )
            needed = 1 if join.strategy == "any" else max(1, evaluate_count(join.m or 1, expression_scope(state, first), "m"))
            if len(queues) >= needed:
                return self._fire(state, join_id, join, queues, needed)
            possible = len(queues)
            if not last:
                possible += sum(1 for _ in self._open_edges(state, scope_id, self._others(join.node, queues)))
            if possible >= needed:
                return []
        except ExpressionError as error:
            return self._give_up(state, join_id, expression_failure(error, join.node, "join over incoming"))
        message = f"the join over incoming at node {join.node!r} needs {needed} arrivals, and only {possible} can come"
        return self._give_up(
            state, join_id, ErrorRecord("JoinUnsatisfied", message, retryable=False, kind="join", node_id=join.node)
        )

    def _others(self, node: str, taken: Container[str]) -> list[Edge]:
        return [edge for edge in self._graph.incoming[node] if edge.id not in taken]

    def _blocked(self, state: RunState, join_id: str, scope_id: str, queues: Container[str]) -> bool:
        witness = self._blocked_by.get(join_id)
        if witness is not None and witness.id not in queues and any(self._open_edges(state, scope_id, (witness,))):
            return True
        edge = next(iter(self._open_edges(state, scope_id, self._others(incoming_place(join_id)[0], queues))), None)
        if edge is None:
            self._blocked_by.pop(join_id, None)
            return False
        self._blocked_by[join_id] = edge
        return True

    def _go_on(self, state: RunState, join_id: str, scope_id: str, join: JoinSpec, *, last: bool) -> list[Decision]:
        """A round is open: late arrivals follow `remaining`; when nothing is left to come the round is over."""
        others = self._others(join.node, state.rounds[join_id])
        queues = state.index.queues.get(join_id, {})
        late = [next(iter(queue)) for edge in others if (queue := queues.get(edge.id))]
        if late and join.remaining == "pass":
            token = state.tokens[min(late, key=lambda token_id: state.tokens[token_id].ordinal)]
            try:
                return self._take(state, join_id, join, [token], round_open=True)
            except ExpressionError as error:
                failure = expression_failure(error, join.node, "join over incoming")
                absorbed = AbsorbArrivals(join_id=join_id, node_id=join.node, token_ids=(token.id,))
                return [absorbed, *escalate(state, self._graph, token.group_id, failure, token_id=token.id)]
        if late:
            return [AbsorbArrivals(join_id=join_id, node_id=join.node, token_ids=tuple(late))]
        if not last and any(True for _ in self._open_edges(state, scope_id, others)):
            return []
        return [ResetFanIn(join_id=join_id, node_id=join.node)]

    def _fire(
        self, state: RunState, join_id: str, join: JoinSpec, queues: dict[str, dict[str, None]], needed: int | None = None
    ) -> list[Decision]:
        heads = [state.tokens[next(iter(queue))] for queue in queues.values()]
        heads.sort(key=lambda token: token.ordinal)
        self._blocked_by.pop(join_id, None)
        if needed is None:
            return self._take(state, join_id, join, heads, round_open=False)
        taken = heads[:needed]
        rest = self._others(join.node, {token.transition_id or "" for token in taken})
        cancelled = self._cancel_rest(state, join_id, join, rest, queues) if join.remaining == "cancel" else []
        fired = self._take(state, join_id, join, taken, round_open=join.remaining != "cancel" and bool(rest))
        return [*cancelled, *fired]

    def _cancel_rest(
        self, state: RunState, join_id: str, join: JoinSpec, rest: list[Edge], queues: dict[str, dict[str, None]]
    ) -> list[Decision]:
        """Withdraw what waits at, or could still come over, the transitions that were not taken."""
        nodes = self._components.leading_to((edge.source for edge in rest), without=join.node)
        groups = {
            (opener, name)
            for opener, names in self._components.after_groups.items()
            for name, after in names.items()
            if not nodes.isdisjoint(after)
        }
        reason = f"the join at node {join.node!r} has fired"
        late = tuple(token_id for edge in rest for token_id in queues.get(edge.id, ()))
        decisions: list[Decision] = [CancelTokens(token_ids=late, reason=reason)] if late else []
        return [*decisions, *cancel_in_scope(state, incoming_place(join_id)[1], nodes, groups, reason)]

    def _take(self, state: RunState, join_id: str, join: JoinSpec, taken: list[Token], *, round_open: bool) -> list[Decision]:
        """The join fires with these arrivals."""
        first = taken[0]
        branch = state.tokens.get(first.scope_id)
        path_id = branch.path_id if branch is not None else ROOT_PATH
        decisions: list[Decision] = []
        if join.merges:
            writes = merge_writes(state, self._in_order(taken), join.merges, path_id, self._names(join.node))
            check_writes(state, first.scope_id, writes)
            decisions.append(
                MergeBranches(join_id=join_id, node_id=join.node, scope_id=first.scope_id, writes=writes, branches=len(taken))
            )
        token_ids = tuple(token.id for token in taken)
        decisions.append(
            ActivateFanIn(join_id=join_id, node_id=join.node, token_ids=token_ids, arrivals=len(taken), round_open=round_open)
        )
        decisions.append(
            CreateToken(
                token_id=derive_id("t", "join", *token_ids),
                node_id=join.node,
                path_id=path_id,
                parent_id=first.id,
                scope_id=first.scope_id,
                group_id=first.group_id,
                fanout_id=branch.fanout_id if branch is not None else None,
                index=branch.index if branch is not None else None,
                holds=inherited(self._graph, {name for token in taken for name in token.holds}, join.node),
            )
        )
        return decisions

    def _names(self, node: str) -> dict[str, str]:
        """Transition -> its name in `keyed_by_branch`: the node it comes from, unless others come from there, too."""
        edges = self._graph.incoming[node]
        sources = Counter(edge.source for edge in edges)
        return {edge.id: edge.source if sources[edge.source] == 1 else edge.id for edge in edges}

    def _in_order(self, taken: list[Token]) -> list[Token]:
        order = self._graph.edge
        return sorted(taken, key=lambda token: (order[token.transition_id or ""].order, branch_order(token)))

    def _give_up(self, state: RunState, join_id: str, error: ErrorRecord) -> list[Decision]:
        """What waits can never be joined: it ends, and the branch has a failure."""
        waiting = tuple(state.index.arrivals[join_id])
        first = state.tokens[waiting[0]]
        ended = CancelTokens(token_ids=waiting, reason=error.message)
        return [ended, *escalate(state, self._graph, first.group_id, error, token_id=first.id)]
