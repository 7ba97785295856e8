"""When a group's join fires, fails or is skipped (rules R2, R4, R6, R7, R9)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from wonder_ray.decisions import ActivateFanIn, CloseGroup, CompleteGroup, CreateToken, Decision, MergeBranches
from wonder_ray.errors import ExpressionError
from wonder_ray.ids import derive_id
from wonder_ray.planning.admission import inherited
from wonder_ray.planning.cancelling import cancel_members
from wonder_ray.planning.failing import fail_group
from wonder_ray.planning.merging import check_writes, merge_writes
from wonder_ray.planning.passing import pass_join
from wonder_ray.planning.scope import expression_failure, in_branch_order, threshold
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
        if not group.active:
            state.index.settle_instance(group)
        return []
    join = graph.group_joins.get(group.name)
    if join is None:
        return _settle_unjoined(state, group)
    if (join.blocking and not group.complete and not state.index.is_first_instance(group)) or _must_wait(group, join):
        return []
    try:
        if group.complete:
            return _fire(state, graph, group, join, group.arrived)
        if join.strategy == "all":
            return _settle_all(state, graph, group, join)
        return _settle_some(state, graph, growth, group, join)
    except ExpressionError as error:
        return fail_group(state, graph, group, expression_failure(error, join.node, f"join over {group.name!r}"))


def _must_wait(group: Group, join: JoinSpec) -> bool:
    """Whether an `all` has members left to come, or may get some."""
    return join.strategy == "all" and not group.complete and (group.active > 0 or group.open)


def _settle_unjoined(state: RunState, group: Group) -> list[Decision]:
    closed: Decision = CloseGroup(group_id=group.id)
    if group.complete:
        return [*cancel_members(state, group.id, f"group {group.name!r} is complete"), closed]
    return [] if group.active or group.open else [closed]


def join_timed_out(state: RunState, graph: Graph, group: Group) -> list[Decision]:
    """A group's join has waited long enough: it goes on with what there is, or fails."""
    join = graph.group_joins[group.name]
    waited = f"join over {group.name!r} at node {join.node!r} has waited for its timeout_s of {(join.timeout_us or 0) / 1e6:g} s"
    if join.proceeds:
        return [CompleteGroup(group_id=group.id, reason=waited)]
    message = f"{waited}; {group.arrived} of {group.size} came"
    return fail_group(state, graph, group, ErrorRecord("JoinTimeout", message, retryable=False, kind="join", node_id=join.node))


def _settle_all(state: RunState, graph: Graph, group: Group, join: JoinSpec) -> list[Decision]:
    if group.arrived or group.size == 0 or group.failures:
        return _fire(state, graph, group, join, group.arrived)
    return [CloseGroup(group_id=group.id)]


def _settle_some(state: RunState, graph: Graph, growth: Growth, group: Group, join: JoinSpec) -> list[Decision]:
    needed = threshold(state, graph, group, join)
    if group.arrived >= needed:
        return _fire(state, graph, group, join, needed)
    if group.open:
        return []
    if group.active and (group.arrived + group.active >= needed or growth.possible(state, group, join)):
        return []
    came = f"only {group.arrived} of {group.size} came" + (f" and {group.active} can still come" if group.active else "")
    msg = f"join over {group.name!r} at node {join.node!r} needs {needed} arrivals, and {came}"
    return fail_group(state, graph, group, ErrorRecord("JoinUnsatisfied", msg, retryable=False, kind="join", node_id=join.node))


def _fire(state: RunState, graph: Graph, group: Group, join: JoinSpec, needed: int) -> list[Decision]:
    """Fire with the first `needed` arrivals; what arrived in the same moment beyond them goes the way of the rest (R2)."""
    opener = state.tokens[group.opener_id]
    waiting = state.index.arrivals.get(group.id, {})
    taken = dict.fromkeys(islice(waiting, needed))
    decisions: list[Decision] = []
    if join.merges:
        arrivals = in_branch_order(state, graph, (state.tokens[token_id] for token_id in taken))
        writes = merge_writes(state, arrivals, join.merges, opener.path_id)
        check_writes(state, opener.scope_id, writes)
        decisions.append(
            MergeBranches(join_id=group.id, node_id=join.node, scope_id=opener.scope_id, writes=writes, branches=len(arrivals))
        )
    if join.remaining == "cancel" or group.complete:
        decisions.extend(cancel_members(state, group.id, f"the join over {group.name!r} has fired", keep=taken))
    passing = join.remaining == "pass" and group.active > 0 and not group.complete
    held = {name for token_id in taken for name in state.tokens[token_id].holds}
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
            holds=inherited(graph, held, join.node),
        )
    )
    if join.remaining == "pass":
        for token_id in islice(waiting, len(taken), None):
            decisions.extend(pass_join(state, group, join, state.tokens[token_id]))
    return decisions
