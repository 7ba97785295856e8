"""What ends when a branch, a group or the run is withdrawn: tokens, and the groups inside, recursively (rule R11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.decisions import CancelGroup, CancelTokens, Decision
from wonder_ray.state import TERMINAL_TOKEN, GroupStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.run_state import RunState


def cancel_members(state: RunState, group_id: str, reason: str, *, keep_arrivals: bool = False) -> list[Decision]:
    """Decisions that end all that is live in a group, its inner groups first to last; the group itself stays as it is."""
    inner = list(_inner_groups(state, group_id))
    arrived = state.index.arrivals.get(group_id, {}) if keep_arrivals else {}
    tokens = [
        token_id for group in (group_id, *inner) for token_id in state.index.members.get(group, ()) if token_id not in arrived
    ]
    decisions: list[Decision] = [CancelTokens(token_ids=tuple(tokens), reason=reason)] if tokens else []
    decisions.extend(
        CancelGroup(group_id=group, reason=reason) for group in inner if state.groups[group].status is GroupStatus.OPEN
    )
    return decisions


def _inner_groups(state: RunState, group_id: str) -> Iterator[str]:
    for inner in state.index.inner.get(group_id, ()):
        yield inner
        yield from _inner_groups(state, inner)


def cancel_everything(state: RunState, reason: str) -> list[Decision]:
    """Decisions that end every live token and open group of the run."""
    tokens = tuple(token.id for token in state.tokens.values() if token.status not in TERMINAL_TOKEN)
    decisions: list[Decision] = [CancelTokens(token_ids=tokens, reason=reason)] if tokens else []
    decisions.extend(
        CancelGroup(group_id=group.id, reason=reason) for group in state.groups.values() if group.status is GroupStatus.OPEN
    )
    return decisions
