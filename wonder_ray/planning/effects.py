"""What a transition does beside making tokens: it cancels nodes and groups, and completes or closes groups.

An effect reaches the nearest enclosing branch that a node (or the split of a group) belongs to: a branch of a fan-out that
cancels its own timer leaves the timers of the other branches alone, and one branch of a split can cancel the nodes of another.
Tokens that wait at a join have left their node already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.decisions import CancelGroup, CancelTokens, CompleteGroup, Decision, SealGroup
from wonder_ray.planning.cancelling import cancel_members
from wonder_ray.state import ROOT_SCOPE, GroupStatus, Token, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.definitions.graph import Edge, Graph
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Group


def effects(state: RunState, graph: Graph, source: Token, edge: Edge) -> list[Decision]:
    """The effects of a transition that fires, before its tokens are made."""
    reason = f"transition {edge.id} has fired"
    decisions: list[Decision] = []
    tokens = [token for node_id in edge.cancel for token in _tokens_at(state, graph, source, node_id)]
    if tokens:
        tokens.sort(key=lambda token: token.ordinal)
        decisions.append(CancelTokens(token_ids=tuple(token.id for token in tokens), reason=reason, routed=True))
    for name in edge.cancel_groups:
        for group in _instances(state, graph, source, name):
            decisions += [*cancel_members(state, group.id, reason), CancelGroup(group_id=group.id, reason=reason)]
    for name in edge.complete_groups:
        decisions += [CompleteGroup(group_id=group.id, reason=reason) for group in _instances(state, graph, source, name)]
    for name in edge.close_groups:
        decisions += [SealGroup(group_id=group.id) for group in _instances(state, graph, source, name) if group.open]
    return decisions


def withdraws_itself(state: RunState, source: Token, decisions: Iterable[Decision]) -> bool:
    """Whether the effects cancel a group that the source is in: nothing goes on from there."""
    cancelled = {decision.group_id for decision in decisions if isinstance(decision, CancelGroup)}
    group_id = source.group_id
    while cancelled and group_id is not None:
        if group_id in cancelled:
            return True
        group_id = state.groups[group_id].parent_id
    return False


def _instances(state: RunState, graph: Graph, source: Token, name: str) -> list[Group]:
    """The open groups of a name in the nearest branch around the source that such groups are opened in."""
    branch = _branch_of(state, graph, source, graph.openers.get(name, ()))
    found = [
        group
        for (group_name, scope), instances in state.index.instances.items()
        if group_name == name and _is_within(state, scope, branch)
        for group in (state.groups[group_id] for group_id in instances)
        if group.status is GroupStatus.OPEN
    ]
    return sorted(found, key=lambda group: group.ordinal)


def _tokens_at(state: RunState, graph: Graph, source: Token, node_id: str) -> list[Token]:
    """The tokens at a node in the nearest branch around the source that the node belongs to."""
    branch = _branch_of(state, graph, source, (node_id,))
    tokens = (state.tokens[token_id] for token_id in state.index.follow_nodes().get(node_id, ()))
    return [
        token
        for token in tokens
        if token.status is not TokenStatus.WAITING_FOR_SIBLINGS and _is_within(state, token.scope_id, branch)
    ]


def _branch_of(state: RunState, graph: Graph, source: Token, nodes: Iterable[str]) -> str:
    """The scope of the innermost branch around the source in which one of the nodes can be reached."""
    scope_id = source.scope_id
    while scope_id != ROOT_SCOPE and graph.branch_nodes(state.tokens[scope_id].node_id).isdisjoint(nodes):
        scope_id = state.outer_scope(scope_id)
    return scope_id


def _is_within(state: RunState, scope_id: str, outer: str) -> bool:
    while scope_id not in {outer, ROOT_SCOPE}:
        scope_id = state.outer_scope(scope_id)
    return outer in {scope_id, ROOT_SCOPE}
