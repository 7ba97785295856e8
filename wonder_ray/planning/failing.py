"""What a failure does: the node's own handlers, its group's tolerance, the group's failure, at last the run's (rule R10)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from wonder_ray.decisions import Decision, FailGroup, TolerateFailure
from wonder_ray.errors import ExpressionError
from wonder_ray.planning.cancelling import cancel_members
from wonder_ray.planning.ending import fail_run
from wonder_ray.planning.routing import RoutingError, Split, select_edges
from wonder_ray.planning.scope import expression_failure, threshold
from wonder_ray.state import ErrorRecord, Group, GroupStatus, Token, TokenStatus

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState


_ROUNDING = 1e-9
"""0.29 of 100 are 29, though the product of the floats is a little less."""


def decide_failure(state: RunState, graph: Graph, token: Token, error: ErrorRecord) -> list[Decision]:
    """What follows from the failure of a token: its handlers fire, or its group (or the run) takes it."""
    outcomes = ("timed_out", "failed") if token.status is TokenStatus.TIMED_OUT else ("failed",)
    try:
        for outcome in outcomes:
            edges, _ = select_edges(state, graph, token, outcome, error=error)
            if edges:
                return Split(state, graph, token, cause=error).fire(edges)
    except ExpressionError as broken:
        error = expression_failure(broken, token.node_id, "routing a failure")
    except RoutingError as broken:
        error = broken.error
    return escalate(state, graph, token.group_id, error, token_id=token.id)


def escalate(
    state: RunState, graph: Graph, group_id: str | None, error: ErrorRecord, *, token_id: str | None = None
) -> list[Decision]:
    """An unhandled failure rises through the groups around it until one tolerates or handles it, or the run fails."""
    decisions: list[Decision] = []
    while group_id is not None:
        group = state.groups[group_id]
        if group.status is not GroupStatus.OPEN:
            return decisions
        if group.failures < _tolerance(state, graph, group):
            decisions.append(TolerateFailure(group_id=group.id, error=error, token_id=token_id))
            return decisions
        handled, error = _fail_group(state, graph, group, error, decisions)
        if handled:
            return decisions
        group_id = group.parent_id
    return fail_run(state, error, f"the run failed: {error.type}")


def fail_group(state: RunState, graph: Graph, group: Group, error: ErrorRecord) -> list[Decision]:
    """A group fails of itself (its join cannot be met): no tolerance applies to that."""
    decisions: list[Decision] = []
    handled, error = _fail_group(state, graph, group, error, decisions)
    return decisions if handled else decisions + escalate(state, graph, group.parent_id, error)


def _fail_group(
    state: RunState, graph: Graph, group: Group, error: ErrorRecord, decisions: list[Decision]
) -> tuple[bool, ErrorRecord]:
    """Cancel the members, fail the group and fire its opener's `group_failed` transitions; whether any fired."""
    decisions.extend(cancel_members(state, group.id, f"group {group.name!r} failed: {error.type}"))
    decisions.append(FailGroup(group_id=group.id, error=error))
    opener = state.tokens[group.opener_id]
    try:
        edges, _ = select_edges(state, graph, opener, "group_failed", error=error, group=group.name)
        if edges:
            decisions.extend(Split(state, graph, opener, base=group.id, cause=error).fire(edges))
            return True, error
    except ExpressionError as broken:
        return False, expression_failure(broken, opener.node_id, f"routing the failure of group {group.name!r}")
    except RoutingError as broken:
        return False, broken.error
    return False, error


def _tolerance(state: RunState, graph: Graph, group: Group) -> int:
    """How many failures of members a group takes."""
    if isinstance(group.tolerated, float):
        return math.floor(group.tolerated * group.size + _ROUNDING)
    if group.tolerated is not None:
        return group.tolerated
    needed = arrivals_needed(state, graph, group)
    return 0 if needed is None else max(0, group.size - needed)


def arrivals_needed(state: RunState, graph: Graph, group: Group) -> int | None:
    """How many arrivals the group's join fires at; None for `all`, and where there is no join."""
    join = graph.group_joins.get(group.name)
    if join is None or join.strategy == "all":
        return None
    try:
        return threshold(state, graph, group, join)
    except ExpressionError:
        return group.size
