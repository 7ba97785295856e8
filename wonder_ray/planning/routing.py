"""Where a token goes when it ends: which transitions fire, and what tokens, groups and fan-outs they make (R1, R2, R3, R6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wonder_ray.decisions import (
    BatchCreateTokens,
    CreateToken,
    Decision,
    MarkWaiting,
    OpenGroup,
)
from wonder_ray.definitions.graph import INCOMING, Edge, Graph, JoinSpec
from wonder_ray.definitions.limits import SPAWN_MAX
from wonder_ray.errors import ExpressionError
from wonder_ray.fold import fan_out_token_id
from wonder_ray.ids import derive_id, escape_path_segment
from wonder_ray.planning.admission import inherited
from wonder_ray.planning.effects import effects, withdraws_itself
from wonder_ray.planning.passing import pass_join
from wonder_ray.planning.scope import evaluate_count, expression_failure, expression_scope
from wonder_ray.state import ErrorRecord, Group, GroupStatus, Token, incoming_id

if TYPE_CHECKING:
    from wonder_ray.definitions.expressions import Expression
    from wonder_ray.run_state import RunState


class RoutingError(Exception):
    """A transition cannot fire; `error` becomes the failure of the node it leaves."""

    def __init__(self, error: ErrorRecord) -> None:
        super().__init__(error.message)
        self.error = error


def select_edges(
    state: RunState,
    graph: Graph,
    source: Token,
    outcome: str,
    *,
    error: ErrorRecord | None = None,
    group: str | None = None,
) -> tuple[list[Edge], bool]:
    """The transitions that fire (the lowest tier with a match), and whether a used-up `max_iterations` held one back."""
    exhausted = False
    scope: dict[str, Any] | None = None
    for tier in graph.tiers(source.node_id, outcome):
        fired = []
        for edge in tier:
            if edge.trigger.group != group or edge.trigger.error_type not in {None, error.type if error else None}:
                continue
            if edge.when is not None:
                scope = scope or _routing_scope(state, source, error)
                if not edge.when.evaluate_bool(scope):
                    continue
            if edge.max_iterations is not None and state.iterations.get((source.scope_id, edge.id), 0) >= edge.max_iterations:
                exhausted = True
                continue
            fired.append(edge)
        if fired:
            return fired, False
    return [], exhausted


def _routing_scope(state: RunState, source: Token, error: ErrorRecord | None) -> dict[str, Any]:
    scope = expression_scope(state, source, source.result)
    if error is not None:
        scope["error"] = error.as_json()
    return scope


class Split:
    """One firing of transitions out of `source`: collects the decisions that make its successors."""

    def __init__(
        self, state: RunState, graph: Graph, source: Token, *, base: str | None = None, cause: ErrorRecord | None = None
    ) -> None:
        self.state = state
        self.graph = graph
        self.source = source
        self.base = base or source.id
        """What ids are derived from: the source, or (for `group_failed`) the group, since a source may then fire twice."""
        self.cause = cause
        self.decisions: list[Decision] = []
        self._opened: dict[str, str] = {}
        self._place_free = source.group_id is not None
        """Whether the source's own place in its group is still to be taken over."""
        self._branch = 0
        self._splits = False

    def fire(self, edges: list[Edge]) -> list[Decision]:
        """The decisions for all transitions that fire together; raises `RoutingError` before anything is decided."""
        counts = [self._count(edge) for edge in edges]
        self._splits = len(edges) > 1 or any(edge.fans_out or edge.group is not None for edge in edges)
        for edge in edges:
            if edge.has_effects:
                self.decisions.extend(effects(self.state, self.graph, self.source, edge))
        if self.decisions and withdraws_itself(self.state, self.source, self.decisions):
            return self.decisions
        for edge in edges:
            if edge.group is not None and edge.group not in self._opened:
                self._open(edge, is_open=any(other.open for other in edges if other.group == edge.group))
        for edge, (count, items) in zip(edges, counts, strict=True):
            if edge.fans_out:
                self._fan_out(edge, count, items)
            else:
                self._single(edge)
            self._branch += count
        return self.decisions

    def _count(self, edge: Edge) -> tuple[int, list[Any] | None]:
        scope = _routing_scope(self.state, self.source, self.cause) if edge.fans_out else {}
        try:
            if edge.foreach is not None:
                items = _items(edge.foreach, scope)
                return self._checked(edge, len(items)), items
            if edge.spawn_count is not None:
                return self._checked(edge, evaluate_count(edge.spawn_count, scope, "spawn_count")), None
        except ExpressionError as error:
            raise RoutingError(expression_failure(error, self.source.node_id, f"transition {edge.id}")) from None
        return 1, None

    def _checked(self, edge: Edge, count: int) -> int:
        if count > SPAWN_MAX:
            msg = f"transition {edge.id}: {count} branches are more than the {SPAWN_MAX} that one firing may make"
            raise ExpressionError(msg)
        return count

    def add_members(self, edge: Edge, group: Group, items: list[Any]) -> list[Decision]:
        """The decisions for members that are added to an open group from outside."""
        self._opened[group.name] = group.id
        self._splits = True
        self._place_free = False
        self._branch = group.size
        self._fan_out(edge, len(items), items if edge.foreach is not None else None, first=group.size)
        return self.decisions

    def _open(self, edge: Edge, *, is_open: bool) -> None:
        name = edge.group or ""
        inner = self.state.groups.get(self.source.group_id or "")
        if inner is not None and inner.name == name and inner.status is GroupStatus.OPEN:
            self._opened[name] = inner.id
            return
        group_id = derive_id("g", self.base, name)
        self._opened[name] = group_id
        self.decisions.append(
            OpenGroup(
                group_id=group_id,
                name=name,
                opener_id=self.source.id,
                parent_id=self.source.group_id,
                member=self._members(self.source.group_id, 1) == 1,
                tolerated=edge.tolerated,
                open=is_open,
                due_us=self._join_due_us(self.graph.group_joins.get(name)),
            )
        )

    def _join_due_us(self, join: JoinSpec | None) -> int | None:
        return None if join is None or join.timeout_us is None else self.state.now_us + join.timeout_us

    def _race(self, edge: Edge) -> str | None:
        return None if edge.race is None else derive_id("r", self.base, edge.race)

    def _wait(self, edge: Edge, token_id: str, join_id: str | None, scope_id: str) -> Decision:
        """A token waits at a join: of a group, or over `incoming`, which then waits for it as long as it may."""
        if join_id is not None:
            return MarkWaiting(token_id=token_id, join_id=join_id)
        due_us = self._join_due_us(edge.join)
        return MarkWaiting(token_id=token_id, join_id=incoming_id(edge.target, scope_id), due_us=due_us)

    def _members(self, group_id: str | None, count: int) -> int:
        """How many of `count` new tokens add a member to the group: one may take over the source's place."""
        if group_id is None:
            return 0
        if group_id == self.source.group_id and self._place_free and count:
            self._place_free = False
            return count - 1
        return count

    def _fan_out(self, edge: Edge, count: int, items: list[Any] | None, *, first: int = 0) -> None:
        fanout_id = derive_id("f", self.base, edge.id)
        group_id = self._opened[edge.group] if edge.group is not None else self.source.group_id
        bound = self._bound(edge, group_id)
        if isinstance(bound, Group):
            for i in range(count):
                self._late(edge, bound, i)
            return
        self.decisions.append(
            BatchCreateTokens(
                fanout_id=fanout_id,
                parent_id=self.source.id,
                transition_id=edge.id,
                node_id=edge.target,
                count=count,
                first_branch=self._branch,
                items=items,
                item_name=edge.item,
                group_id=bound or group_id,
                scoped=edge.group is not None,
                members=self._members(bound or group_id, count),
                max_concurrency=edge.max_concurrency,
                counted=edge.max_iterations is not None,
                cause=self.cause,
                race_id=self._race(edge),
                holds=inherited(self.graph, self.source.holds, edge.target),
                first=first,
            )
        )
        if edge.join is not None:
            for i in range(count):
                token_id = fan_out_token_id(fanout_id, i)
                scope_id = token_id if edge.group is not None else self.source.scope_id
                self.decisions.append(self._wait(edge, token_id, bound, scope_id))

    def _path(self, nth: int = 0) -> str:
        """The path of the nth token of the transition that fires."""
        source = self.source
        return f"{source.path_id}.{escape_path_segment(source.node_id)}.{self._branch + nth}" if self._splits else source.path_id

    def _single(self, edge: Edge) -> None:
        source = self.source
        token_id = derive_id("t", self.base, edge.id, 0)
        group_id = self._opened[edge.group] if edge.group is not None else source.group_id
        scope_id = token_id if edge.group is not None else source.scope_id
        bound = self._bound(edge, group_id)
        if isinstance(bound, Group):
            self._late(edge, bound)
            return
        group_id = bound or group_id
        self.decisions.append(
            CreateToken(
                token_id=token_id,
                node_id=edge.target,
                path_id=self._path(),
                parent_id=source.id,
                transition_id=edge.id,
                scope_id=scope_id,
                group_id=group_id,
                fanout_id=source.fanout_id,
                index=source.index,
                member=self._members(group_id, 1) == 1,
                counted=edge.max_iterations is not None,
                cause=self.cause,
                race_id=self._race(edge),
                holds=inherited(self.graph, source.holds, edge.target),
            )
        )
        if edge.join is not None:
            self.decisions.append(self._wait(edge, token_id, bound, scope_id))

    def _bound(self, edge: Edge, group_id: str | None) -> str | Group | None:
        """The open group whose join this transition leads to; the group itself when its join has fired already."""
        if edge.join is None or edge.join.over == INCOMING:
            return None
        if edge.group == edge.join.over:
            return group_id
        bound = self.state.bound_group(self.source.group_id, edge.join.over)
        if bound is None:
            msg = f"transition {edge.id} joins group {edge.join.over!r}, and no such group is open around this token"
            raise RoutingError(ErrorRecord("GroupNotOpen", msg, retryable=False, kind="join", node_id=self.source.node_id))
        return bound.id if bound.status is GroupStatus.OPEN else bound

    def _late(self, edge: Edge, group: Group, nth: int = 0) -> None:
        """An arrival after the join has fired: absorbed without a trace of its own, or passed as one more thread (R2)."""
        join = self.graph.group_joins[group.name]
        if group.status is not GroupStatus.PASSING:
            return
        try:
            self.decisions.extend(pass_join(self.state, group, join, self._as_arrival(edge, nth)))
        except ExpressionError as error:
            raise RoutingError(expression_failure(error, join.node, f"join over {join.over!r}")) from None

    def _as_arrival(self, edge: Edge, nth: int) -> Token:
        """The token that would have waited at the join, had it not fired."""
        source = self.source
        return Token(
            id=derive_id("t", self.base, edge.id, nth),
            ordinal=source.ordinal,
            node_id=edge.target,
            path_id=self._path(nth),
            parent_id=source.id,
            scope_id=source.scope_id,
            fanout_id=source.fanout_id,
            index=source.index,
        )


def _items(foreach: Expression, scope: dict[str, Any]) -> list[Any]:
    items = foreach.evaluate(scope)
    if not isinstance(items, list):
        msg = f"foreach {foreach.text!r} gave {items!r:.200}, which is not a list"
        raise ExpressionError(msg)
    return items
