"""How events change sibling groups and joins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.fold.tokens import end_token, member_left
from wonder_ray.state import HELD_OPEN, Group, GroupStatus, TokenStatus

if TYPE_CHECKING:
    from wonder_ray import workflow_events as ev
    from wonder_ray.fold.changes import Folding


def group_opened(state: Folding, event: ev.GroupOpened, _stamp: ev.Stamp) -> None:
    """A group is open; it is one live member of its parent."""
    group = Group(
        id=event.group_id,
        ordinal=len(state.groups) + 1,
        name=event.name,
        opener_id=event.token_id,
        parent_id=event.parent_id,
        tolerated=event.tolerated,
        open=event.open,
        due_us=event.due_us,
    )
    state.groups[group.id] = group
    state.changes.groups[group.id] = group
    state.index.touch(group.id)
    state.index.open_group(group)
    if group.parent_id is not None:
        parent = state.changed_group(group.parent_id)
        parent.active += 1
        parent.size += event.member


def group_closed(state: Folding, event: ev.GroupClosed, _stamp: ev.Stamp) -> None:
    """The last member has ended, and no join fires for that."""
    passing = state.groups[event.group_id].status is GroupStatus.PASSING
    _change_status(state, event.group_id, GroupStatus.FIRED if passing else GroupStatus.SKIPPED)


def group_failed(state: Folding, event: ev.GroupFailed, _stamp: ev.Stamp) -> None:
    """The group has failed."""
    _change_status(state, event.group_id, GroupStatus.FAILED)


def group_cancelled(state: Folding, event: ev.GroupCancelled, _stamp: ev.Stamp) -> None:
    """The group was withdrawn."""
    _change_status(state, event.group_id, GroupStatus.CANCELLED)


def _change_status(state: Folding, group_id: str, status: GroupStatus) -> None:
    group = state.changed_group(group_id)
    was_held = group.status in HELD_OPEN
    group.status = status
    if not was_held or status in HELD_OPEN:
        return
    state.index.shut_group(group)
    if group.parent_id is not None:
        member_left(state, group.parent_id)


def members_added(state: Folding, event: ev.GroupMembersAdded, _stamp: ev.Stamp) -> None:
    """Members come from outside; their fan-out follows."""
    state.changed_group(event.group_id).added += 1


def group_sealed(state: Folding, event: ev.GroupSealed, _stamp: ev.Stamp) -> None:
    """No more members come from outside."""
    state.changed_group(event.group_id).open = False
    state.index.open_groups.pop(event.group_id, None)
    state.index.touch(event.group_id)


def group_completed_early(state: Folding, event: ev.GroupCompletedEarly, _stamp: ev.Stamp) -> None:
    """Its join is to fire with what there is."""
    state.changed_group(event.group_id).complete = True
    state.index.touch(event.group_id)


def failure_tolerated(state: Folding, event: ev.GroupFailureTolerated, _stamp: ev.Stamp) -> None:
    """The group has taken a failure."""
    state.changed_group(event.group_id).failures += 1
    state.index.touch(event.group_id)


# --- joins ---------------------------------------------------------------------------------------------------------


def fan_in_completed(state: Folding, event: ev.FanInCompleted, _stamp: ev.Stamp) -> None:
    """A join has fired; the arrivals that it took have ended."""
    join_id = event.join_id
    _consume(state, join_id, event.token_ids, round_open=event.round_open)
    if join_id not in state.groups:
        state.index.touched_joins[join_id] = None
    elif event.passing:
        _change_status(state, join_id, GroupStatus.PASSING)
        state.index.touch(join_id)
    else:
        _change_status(state, join_id, GroupStatus.FIRED)


def fan_in_absorbed(state: Folding, event: ev.FanInAbsorbed, _stamp: ev.Stamp) -> None:
    """Late arrivals of a round have ended at their join."""
    _consume(state, event.join_id, event.token_ids, round_open=True)
    state.index.touched_joins[event.join_id] = None


def fan_in_reset(state: Folding, event: ev.FanInReset, _stamp: ev.Stamp) -> None:
    """A round is over: what waits belongs to the next."""
    for transition_id in state.rounds.pop(event.join_id):
        state.changes.iterations[event.join_id, transition_id] = 0
    state.index.touched_joins[event.join_id] = None


def _consume(state: Folding, join_id: str, token_ids: tuple[str, ...] | None, *, round_open: bool) -> None:
    consumed = tuple(state.index.arrivals.get(join_id, ())) if token_ids is None else token_ids
    for token_id in consumed:
        token = state.tokens[token_id]
        end_token(state, token, TokenStatus.COMPLETED)
        if round_open:
            transition_id = token.transition_id or ""
            state.rounds.setdefault(join_id, {})[transition_id] = None
            state.changes.iterations[join_id, transition_id] = 1
