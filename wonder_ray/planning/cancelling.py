"""What ends when a branch, a group or the run is withdrawn: tokens, and the groups inside, recursively (rule R11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.decisions import CancelGroup, CancelTokens, Decision
from wonder_ray.state import HELD_OPEN, TERMINAL_TOKEN

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from wonder_ray.run_state import RunState
    from wonder_ray.state import Group


def cancel_members(state: RunState, group_id: str, reason: str, *, keep: Container[str] = ()) -> list[Decision]:
    """Decisions that end all that is live in a group (but what is to be kept); the group itself stays as it is."""
    inner = list(_inner_groups(state, group_id))
    members = (token_id for group in (group_id, *inner) for token_id in state.index.members.get(group, ()))
    return _cancel(state, (token_id for token_id in members if token_id not in keep), inner, reason)


def _inner_groups(state: RunState, group_id: str) -> Iterator[str]:
    stack = [group_id]
    while stack:
        inner = state.index.inner.get(stack.pop(), ())
        yield from inner
        stack.extend(inner)


def cancel_in_scope(
    state: RunState, scope_id: str, nodes: Container[str], groups: Container[tuple[str, str]], reason: str
) -> list[Decision]:
    """Decisions that end what stands at some nodes of a scope, and the open groups of some (opener's node, name) in it."""
    places = state.index.places
    assert places is not None, "joins over incoming have looked at the places already"
    tokens = [token for node, found in places.at.get(scope_id, {}).items() if node in nodes for token in found]
    opened = [
        group.id
        for group in (state.groups.values() if scope_id in places.groups else ())
        if group.status in HELD_OPEN and _place(state, group) == scope_id and _key(state, group) in groups
    ]
    inner = [group for group_id in opened for group in (group_id, *_inner_groups(state, group_id))]
    tokens.extend(token for group in inner for token in state.index.members.get(group, ()))
    return _cancel(state, tokens, inner, reason)


def _place(state: RunState, group: Group) -> str:
    return state.tokens[group.opener_id].scope_id


def _key(state: RunState, group: Group) -> tuple[str, str]:
    return state.tokens[group.opener_id].node_id, group.name


def cancel_everything(state: RunState, reason: str) -> list[Decision]:
    """Decisions that end every live token and open group of the run."""
    live = (token.id for token in state.tokens.values() if token.status not in TERMINAL_TOKEN)
    return _cancel(state, live, state.groups, reason)


def _cancel(state: RunState, token_ids: Iterable[str], group_ids: Iterable[str], reason: str) -> list[Decision]:
    """In the order in which they came to be, so that it does not depend on how the index was built."""
    tokens = sorted(token_ids, key=lambda token_id: state.tokens[token_id].ordinal)
    groups = [group for group_id in group_ids if (group := state.groups[group_id]).status in HELD_OPEN]
    decisions: list[Decision] = [CancelTokens(token_ids=tuple(tokens), reason=reason)] if tokens else []
    decisions.extend(CancelGroup(group_id=group.id, reason=reason) for group in sorted(groups, key=lambda group: group.ordinal))
    return decisions
