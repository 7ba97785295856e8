"""How events change tokens and fan-outs."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from wonder_ray import workflow_events as ev
from wonder_ray.errors import HistoryConflictError
from wonder_ray.ids import derive_id, escape_path_segment
from wonder_ray.state import Fanout, Token, TokenStatus, check_token_move
from wonder_ray.values import own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.fold.changes import Folding

_COMPLETED = TokenStatus.COMPLETED
_WAITING = TokenStatus.WAITING_FOR_SIBLINGS


# --- begin ---------------------------------------------------------------------------------------------------------


def token_created(state: Folding, event: ev.TokenCreated, _stamp: ev.Stamp) -> None:
    """A token exists."""
    token = Token(
        id=event.token_id,
        ordinal=len(state.tokens) + 1,
        node_id=event.node_id,
        path_id=event.path_id,
        parent_id=event.parent_id,
        transition_id=event.transition_id,
        scope_id=event.scope_id,
        group_id=event.group_id,
        fanout_id=event.fanout_id,
        index=event.index,
        cause=event.cause,
        race_id=event.race_id,
        holds=event.holds,
        undo_of=event.undo_of,
    )
    _add_token(state, token, member=event.member)
    if event.counted and event.parent_id is not None and event.transition_id is not None:
        _count_iteration(state, event.parent_id, event.transition_id)


def _add_token(state: Folding, token: Token, *, member: bool) -> None:
    if token.id in state.tokens:
        msg = f"run {state.run.run_id}: token {token.id} at node {token.node_id!r} is created twice"
        raise HistoryConflictError(msg)
    state.tokens[token.id] = token
    state.changes.tokens[token.id] = token
    if token.group_id is not None:
        group = state.changed_group(token.group_id)
        group.active += 1
        group.size += member
    state.index.enter(token)


def _count_iteration(state: Folding, parent_id: str, transition_id: str) -> None:
    key = (state.tokens[parent_id].scope_id, transition_id)
    state.iterations[key] = state.iterations.get(key, 0) + 1
    state.changes.iterations[key] = state.iterations[key]


def fan_out_started(state: Folding, event: ev.FanOutStarted, _stamp: ev.Stamp) -> None:
    """A fan-out and its tokens exist; the tokens are derived from the event."""
    parent = state.tokens[event.token_id]
    fanout = Fanout(
        id=event.fanout_id,
        ordinal=len(state.fanouts) + 1,
        transition_id=event.transition_id,
        parent_id=parent.id,
        count=event.count,
        items=own(event.items),
        item_name=event.item_name,
        max_concurrency=event.max_concurrency,
        outer_id=parent.fanout_id,
        outer_index=parent.index,
        first=event.first,
    )
    state.fanouts[fanout.id] = fanout
    state.changes.fanouts[fanout.id] = fanout
    state.index.limits.add(fanout)
    for i, token in enumerate(_branch_tokens(state, event, parent)):
        _add_token(state, token, member=i < event.members)
    if event.counted:
        _count_iteration(state, parent.id, event.transition_id)
    if event.group_id is not None:
        state.index.touch(event.group_id)


def fan_out_token_id(fanout_id: str, index: int) -> str:
    """The id of a fan-out's i-th token."""
    return derive_id("t", fanout_id, index)


def _branch_tokens(state: Folding, event: ev.FanOutStarted, parent: Token) -> Iterator[Token]:
    prefix = f"{parent.path_id}.{escape_path_segment(parent.node_id)}."
    ordinal = len(state.tokens) + 1
    for i in range(event.count):
        token_id = fan_out_token_id(event.fanout_id, i)
        yield Token(
            id=token_id,
            ordinal=ordinal + i,
            node_id=event.node_id,
            path_id=f"{prefix}{event.first_branch + i}",
            parent_id=parent.id,
            transition_id=event.transition_id,
            scope_id=token_id if event.scoped else parent.scope_id,
            group_id=event.group_id,
            fanout_id=event.fanout_id,
            index=i,
            cause=event.cause,
            race_id=event.race_id,
            holds=event.holds,
        )


# --- end -----------------------------------------------------------------------------------------------------------


def end_token(state: Folding, token: Token, status: TokenStatus) -> None:
    """Give a token its terminal status; its place in the counts of its group ends with it."""
    check_token_move(token, status)
    waited = token.status is _WAITING and token.join_id in state.groups
    state.index.leave(token)
    state.set_status(token, status)
    token.due_us = None
    if token.group_id is not None and not waited:
        member_left(state, token.group_id)


def member_left(state: Folding, group_id: str) -> None:
    """A live member of a group has ended."""
    state.changed_group(group_id).active -= 1
    state.index.touch(group_id)


def token_completed(state: Folding, event: ev.TokenCompleted, _stamp: ev.Stamp) -> None:
    """A token has ended well: its transitions are to be looked at."""
    end_token(state, state.tokens[event.token_id], _COMPLETED)
    state.index.to_route.append(event.token_id)


def token_failed(state: Folding, event: ev.TokenFailed | ev.TokenTimedOut, _stamp: ev.Stamp) -> None:
    """A token has failed for good: its handlers are to be looked at."""
    token = state.tokens[event.token_id]
    token.error = event.error
    end_token(state, token, TokenStatus.FAILED if isinstance(event, ev.TokenFailed) else TokenStatus.TIMED_OUT)
    state.index.to_route.append(token.id)


def token_cancelled(state: Folding, event: ev.TokenCancelled, _stamp: ev.Stamp) -> None:
    """A token was withdrawn."""
    end_token(state, state.tokens[event.token_id], TokenStatus.CANCELLED)
    if event.routed:
        state.index.to_route.append(event.token_id)


# --- between -------------------------------------------------------------------------------------------------------


def token_waiting(state: Folding, event: ev.TokenWaiting, _stamp: ev.Stamp) -> None:
    """A token has arrived at a join."""
    token = state.tokens[event.token_id]
    check_token_move(token, _WAITING)
    token.join_id = event.join_id
    state.set_status(token, _WAITING)
    if event.due_us is not None:
        set_due(state, token, event.due_us)
    if event.join_id in state.groups:
        group = state.changed_group(event.join_id)
        group.active -= 1
        group.arrived += 1
    state.index.arrive(token)


def token_requeued(state: Folding, event: ev.TokenRequeued, _stamp: ev.Stamp) -> None:
    """A token is ready again."""
    token = moved(state, event.token_id, TokenStatus.PENDING)
    token.due_us = None
    token.wait = None
    token.solo = token.solo or event.solo
    state.index.make_ready(token)


def moved(state: Folding, token_id: str, to: TokenStatus) -> Token:
    """The token, with its new status."""
    token = state.tokens[token_id]
    check_token_move(token, to)
    state.set_status(token, to)
    return token


def task_dispatched(state: Folding, event: ev.TaskDispatched, stamp: ev.Stamp) -> None:
    """An attempt is open."""
    token = moved(state, event.token_id, TokenStatus.DISPATCHED)
    state.index.pending(token.node_id)  # takes it out of the queue, so that it is there once only when it comes back
    token.attempt = event.attempt
    token.epoch = stamp.epoch
    if event.first:
        token.input = own(event.input)
    set_due(state, token, event.due_us)


def set_due(state: Folding, token: Token, due_us: int | None) -> None:
    """When something happens to a token by itself, if it does."""
    token.due_us = due_us
    if due_us is not None:
        heapq.heappush(state.index.due, (due_us, token.id))


def task_completed(state: Folding, event: ev.TaskCompleted, _stamp: ev.Stamp) -> None:
    """A result was accepted."""
    token = state.tokens[event.token_id]
    token.result = own(event.result)
    state.changes.tokens[token.id] = token


def task_failed(state: Folding, event: ev.TaskFailed, _stamp: ev.Stamp) -> None:
    """An attempt has failed."""
    token = state.tokens[event.token_id]
    token.error = event.error
    state.changes.tokens[token.id] = token


def retry_scheduled(state: Folding, event: ev.TaskRetryScheduled, _stamp: ev.Stamp) -> None:
    """A failed attempt gets another one."""
    token = moved(state, event.token_id, TokenStatus.WAITING_FOR_RETRY)
    token.failures = {**token.failures, event.rule: token.failures.get(event.rule, 0) + 1}
    set_due(state, token, event.due_us)
