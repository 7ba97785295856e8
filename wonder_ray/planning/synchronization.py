"""When a group's join fires, fails or is skipped (rules R2, R4, R6, R7, R9)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from wonder_ray.decisions import ActivateFanIn, CloseGroup, CreateToken, Decision, MergeBranches
from wonder_ray.errors import ExpressionError
from wonder_ray.ids import derive_id
from wonder_ray.planning.cancelling import cancel_members
from wonder_ray.planning.failing import fail_group
from wonder_ray.planning.merging import branch_order, check_writes, merge_writes
from wonder_ray.planning.passing import pass_join
from wonder_ray.planning.routing import expression_failure
from wonder_ray.planning.scope import evaluate_count, expression_scope
from wonder_ray.state import ErrorRecord, Group, GroupStatus

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import Graph, JoinSpec
    from wonder_ray.planning.growth import Growth
    from wonder_ray.run_state import RunState


def settle_group(state: RunState, graph: Graph, growth: Growth, group: Group) -> list[Decision]:
    """What a group does after something changed in it; nothing, as long as it still waits for what can come."""
    if group.status is GroupStatus.PASSING:
        return [] if group.active else [CloseGroup(group_id=group.id)]
    if group.status is not GroupStatus.OPEN:
        return []
    join = graph.group_joins.get(group.name)
    if join is None:
        return [] if group.active else [CloseGroup(group_id=group.id)]
    if group.active and join.strategy == "all":
        return []
    try:
        return _settle_all(state, group, join) if join.strategy == "all" else _settle_some(state, graph, growth, group, join)
    except ExpressionError as error:
        return fail_group(state, graph, group, expression_failure(error, join.node, f"join over {group.name!r}"))


def _settle_all(state: RunState, group: Group, join: JoinSpec) -> list[Decision]:
    if group.arrived or group.size == 0 or group.failures:
        return _fire(state, group, join, group.arrived)
    return [CloseGroup(group_id=group.id)]


def _settle_some(state: RunState, graph: Graph, growth: Growth, group: Group, join: JoinSpec) -> list[Decision]:
    needed = (
        1 if join.strategy == "any" else evaluate_count(join.m or 0, expression_scope(state, state.tokens[group.opener_id]), "m")
    )
    if group.arrived >= needed:
        return _fire(state, group, join, needed)
    if group.active and (group.arrived + group.active >= needed or growth.possible(state, group, join)):
        return []
    came = f"only {group.arrived} of {group.size} came" + (f" and {group.active} can still come" if group.active else "")
    msg = f"join over {group.name!r} at node {join.node!r} needs {needed} arrivals, and {came}"
    return fail_group(state, graph, group, ErrorRecord("JoinUnsatisfied", msg, retryable=False, kind="join", node_id=join.node))


def _fire(state: RunState, group: Group, join: JoinSpec, needed: int) -> list[Decision]:
    """Fire with the first `needed` arrivals; what arrived in the same moment beyond them goes the way of the rest (R2)."""
    opener = state.tokens[group.opener_id]
    waiting = state.index.arrivals.get(group.id, {})
    taken = dict.fromkeys(islice(waiting, needed))
    decisions: list[Decision] = []
    if join.merges:
        arrivals = sorted((state.tokens[token_id] for token_id in taken), key=branch_order)
        writes = merge_writes(state, arrivals, join.merges, opener.path_id)
        check_writes(state, opener.scope_id, writes)
        decisions.append(
            MergeBranches(join_id=group.id, node_id=join.node, scope_id=opener.scope_id, writes=writes, branches=len(arrivals))
        )
    if join.remaining == "cancel":
        decisions.extend(cancel_members(state, group.id, f"the join over {group.name!r} has fired", keep=taken))
    passing = join.remaining == "pass" and group.active > 0
    decisions.append(
        ActivateFanIn(join_id=group.id, node_id=join.node, token_ids=None, arrivals=len(taken), passing=passing),
    )
    decisions.append(
        CreateToken(
            token_id=derive_id("t", group.id, "join"),
            node_id=join.node,
            path_id=opener.path_id,
            parent_id=opener.id,
            scope_id=opener.scope_id,
            group_id=opener.group_id,
            fanout_id=opener.fanout_id,
            index=opener.index,
        )
    )
    if join.remaining == "pass":
        for token_id in islice(waiting, len(taken), None):
            decisions.extend(pass_join(state, group, join, state.tokens[token_id]))
    return decisions
