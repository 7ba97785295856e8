"""Events -> state: the one place where a run's state changes, live and when a history is folded.

`evolve` applies one event; `fold` applies a history. Both are pure: the same events give the same state.

>>> from wonder_ray.workflow_events import WorkflowStarted
>>> state = new_state("run_x")
>>> evolve(state, WorkflowStarted(input={"n": 1}, workflow_name="w", workflow_version="v"), Stamp(1, 1, 1_000, 1))
>>> state.run.status, state.run.sequence
(<RunStatus.RUNNING: 'running'>, 1)
"""

from __future__ import annotations

import heapq
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.definitions.targets import parse_target, set_in
from wonder_ray.errors import HistoryConflictError
from wonder_ray.ids import derive_id, escape_path_segment
from wonder_ray.run_state import RunState
from wonder_ray.state import (
    ErrorRecord,
    Fanout,
    Group,
    GroupStatus,
    Run,
    RunStatus,
    Token,
    TokenStatus,
    check_run_move,
    check_token_move,
)
from wonder_ray.values import own
from wonder_ray.workflow_events import Stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wonder_ray.decisions import Write


class Changes:
    """Which records events have changed since the last commit: what the store has to write."""

    def __init__(self) -> None:
        self.tokens: dict[str, Token] = {}
        self.groups: dict[str, Group] = {}
        self.fanouts: dict[str, Fanout] = {}
        self.writes: list[tuple[str, Write]] = []
        self.iterations: dict[tuple[str, str], int] = {}


class Folding(RunState):
    """A state that notes what changes in it."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.changes = Changes()


def new_state(run_id: str) -> Folding:
    """The state before the first event."""
    return Folding(Run(run_id=run_id))


def fold(run_id: str, rows: Iterable[dict[str, Any]], *, at: int | None = None) -> Folding:
    """The state after a run's event rows, in sequence; with `at`, the state at the end of the turn that holds it.

    Raises `HistoryConflictError` when a sequence number is missing or doubled.
    """
    state = new_state(run_id)
    last_turn: int | None = None
    for row in rows:
        stamp = Stamp(row["sequence_number"], row["turn"], _as_us(row["turn_now"]), row["epoch"])
        if last_turn is not None and stamp.turn > last_turn:
            break
        evolve(state, ev.decode_event(row), stamp)
        if at is not None and stamp.sequence_number >= at:
            last_turn = stamp.turn
    return state


def _as_us(moment: Any) -> int:  # noqa: ANN401 - an int in lines, a datetime in Parquet rows
    return moment if isinstance(moment, int) else round(moment.timestamp() * 1_000_000)


def evolve(state: Folding, event: ev.WorkflowEvent, stamp: Stamp) -> None:
    """Apply one event."""
    run = state.run
    if stamp.sequence_number != run.sequence + 1:
        msg = (
            f"run {run.run_id}: event {stamp.sequence_number} ({ev.event_type(event)}) follows {run.sequence}; "
            "the history has a gap or a double, see `wonder events`"
        )
        raise HistoryConflictError(msg)
    run.sequence = stamp.sequence_number
    run.turn = stamp.turn
    _EVOLVE[type(event)](state, event, stamp)


# --- the run -------------------------------------------------------------------------------------------------------


def _started(state: Folding, event: ev.WorkflowStarted, stamp: Stamp) -> None:
    run = state.run
    check_run_move(run, RunStatus.RUNNING)
    run.status = RunStatus.RUNNING
    run.workflow_name = event.workflow_name
    run.workflow_version = event.workflow_version
    run.input = own(event.input)
    run.started_us = stamp.turn_now
    run.deadline_us = event.deadline_us


def _end_run(state: Folding, status: RunStatus, stamp: Stamp, error: ErrorRecord | None = None) -> None:
    check_run_move(state.run, status)
    state.run.status = status
    state.run.error = error
    state.run.ended_us = stamp.turn_now


def _workflow_completed(state: Folding, event: ev.WorkflowCompleted, stamp: Stamp) -> None:
    _end_run(state, RunStatus.COMPLETED, stamp)
    state.run.output = own(event.output)


def _workflow_failed(state: Folding, event: ev.WorkflowFailed, stamp: Stamp) -> None:
    _end_run(state, RunStatus.FAILED, stamp, event.error)


def _workflow_timed_out(state: Folding, event: ev.WorkflowTimedOut, stamp: Stamp) -> None:
    _end_run(state, RunStatus.TIMED_OUT, stamp, event.error)


def _workflow_cancelled(state: Folding, event: ev.WorkflowCancelled, stamp: Stamp) -> None:
    _end_run(state, RunStatus.CANCELLED, stamp, ErrorRecord(type="Cancelled", message=event.reason, kind="user"))


def _cancel_requested(state: Folding, event: ev.WorkflowCancelRequested, _stamp: Stamp) -> None:
    state.run.cancel_reason = event.reason


def _noted(_state: Folding, _event: ev.WorkflowEvent, _stamp: Stamp) -> None:
    """The event reports something that is not part of the state."""


# --- tokens --------------------------------------------------------------------------------------------------------


def _token_created(state: Folding, event: ev.TokenCreated, _stamp: Stamp) -> None:
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
        group = _changed_group(state, token.group_id)
        group.active += 1
        group.size += member
    state.enter(token)


def _count_iteration(state: Folding, parent_id: str, transition_id: str) -> None:
    key = (state.tokens[parent_id].scope_id, transition_id)
    state.iterations[key] = state.iterations.get(key, 0) + 1
    state.changes.iterations[key] = state.iterations[key]


def _fan_out_started(state: Folding, event: ev.FanOutStarted, _stamp: Stamp) -> None:
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
    )
    state.fanouts[fanout.id] = fanout
    state.changes.fanouts[fanout.id] = fanout
    state.add_limit(fanout)
    for i, token in enumerate(_branch_tokens(state, event, parent)):
        _add_token(state, token, member=i < event.members)
    if event.counted:
        _count_iteration(state, parent.id, event.transition_id)
    if event.group_id is not None:
        state.index.touched_groups[event.group_id] = None


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
        )


def _end_token(state: Folding, token: Token, status: TokenStatus) -> None:
    check_token_move(token, status)
    waited = token.status is TokenStatus.WAITING_FOR_SIBLINGS and token.join_id in state.groups
    state.leave(token)
    state.move(token, status)
    token.due_us = None
    state.changes.tokens[token.id] = token
    if token.group_id is not None and not waited:
        _changed_group(state, token.group_id).active -= 1
        state.index.touched_groups[token.group_id] = None


def _token_completed(state: Folding, event: ev.TokenCompleted, _stamp: Stamp) -> None:
    token = state.tokens[event.token_id]
    _end_token(state, token, TokenStatus.COMPLETED)
    state.index.to_route.append(token.id)


def _token_failed(state: Folding, event: ev.TokenFailed | ev.TokenTimedOut, _stamp: Stamp) -> None:
    token = state.tokens[event.token_id]
    token.error = event.error
    _end_token(state, token, TokenStatus.FAILED if isinstance(event, ev.TokenFailed) else TokenStatus.TIMED_OUT)
    state.index.to_route.append(token.id)


def _token_cancelled(state: Folding, event: ev.TokenCancelled, _stamp: Stamp) -> None:
    _end_token(state, state.tokens[event.token_id], TokenStatus.CANCELLED)


def _token_waiting(state: Folding, event: ev.TokenWaiting, _stamp: Stamp) -> None:
    _wait(state, state.tokens[event.token_id], event.join_id)


def _wait(state: Folding, token: Token, join_id: str) -> None:
    check_token_move(token, TokenStatus.WAITING_FOR_SIBLINGS)
    token.join_id = join_id
    state.move(token, TokenStatus.WAITING_FOR_SIBLINGS)
    state.changes.tokens[token.id] = token
    if join_id in state.groups:
        group = _changed_group(state, join_id)
        group.active -= 1
        group.arrived += 1
    state.arrive(token)


def _token_requeued(state: Folding, event: ev.TokenRequeued, _stamp: Stamp) -> None:
    token = _moved(state, event.token_id, TokenStatus.PENDING)
    token.due_us = None
    token.solo = token.solo or event.solo
    state.make_ready(token)


def _moved(state: Folding, token_id: str, to: TokenStatus) -> Token:
    token = state.tokens[token_id]
    check_token_move(token, to)
    state.move(token, to)
    state.changes.tokens[token_id] = token
    return token


# --- tasks ---------------------------------------------------------------------------------------------------------


def _task_dispatched(state: Folding, event: ev.TaskDispatched, stamp: Stamp) -> None:
    token = _moved(state, event.token_id, TokenStatus.DISPATCHED)
    token.attempt = event.attempt
    token.epoch = stamp.epoch
    token.due_us = event.due_us
    if event.first:
        token.input = own(event.input)
    if event.due_us is not None:
        heapq.heappush(state.index.due, (event.due_us, token.id))


def _task_completed(state: Folding, event: ev.TaskCompleted, _stamp: Stamp) -> None:
    token = state.tokens[event.token_id]
    token.result = own(event.result)
    state.changes.tokens[token.id] = token


def _task_failed(state: Folding, event: ev.TaskFailed, _stamp: Stamp) -> None:
    token = state.tokens[event.token_id]
    token.error = event.error
    state.changes.tokens[token.id] = token


def _retry_scheduled(state: Folding, event: ev.TaskRetryScheduled, _stamp: Stamp) -> None:
    token = _moved(state, event.token_id, TokenStatus.WAITING_FOR_RETRY)
    token.failures = {**token.failures, event.rule: token.failures.get(event.rule, 0) + 1}
    token.due_us = event.due_us
    heapq.heappush(state.index.due, (event.due_us, token.id))


# --- context -------------------------------------------------------------------------------------------------------


def _context_updated(state: Folding, event: ev.ContextUpdated, _stamp: Stamp) -> None:
    write_context(state, event.scope_id, (event.write,))


def _writes_applied(state: Folding, event: ev.ContextOutputApplied | ev.BranchesMerged, _stamp: Stamp) -> None:
    write_context(state, event.scope_id, event.writes)


def write_context(state: Folding, scope_id: str, writes: Iterable[Write]) -> None:
    """Apply assignments to a scope's overlay; a nested path first takes over the whole top-level value it lies in."""
    for write in writes:
        target = parse_target(write.target)
        overlay = state.contexts.setdefault(scope_id, {"state": {}, "output": {}})
        tree = overlay[target.root]
        if len(target.path) > 1 and target.path[0] not in tree:
            seen = state.view(scope_id)[target.root]
            if target.path[0] in seen:
                tree[target.path[0]] = own(seen[target.path[0]])
        set_in(tree, target.path, own(write.value))
        state.changes.writes.append((scope_id, write))


# --- groups and joins ----------------------------------------------------------------------------------------------


def _changed_group(state: Folding, group_id: str) -> Group:
    group = state.groups[group_id]
    state.changes.groups[group_id] = group
    return group


def _group_opened(state: Folding, event: ev.GroupOpened, _stamp: Stamp) -> None:
    group = Group(
        id=event.group_id,
        ordinal=len(state.groups) + 1,
        name=event.name,
        opener_id=event.token_id,
        parent_id=event.parent_id,
        tolerated=event.tolerated,
    )
    state.groups[group.id] = group
    state.changes.groups[group.id] = group
    state.index.touched_groups[group.id] = None
    state.open_group(group)
    if group.parent_id is not None:
        _changed_group(state, group.parent_id).active += 1


def _shut_group(state: Folding, group_id: str, status: GroupStatus) -> None:
    group = _changed_group(state, group_id)
    was_open = group.status is GroupStatus.OPEN
    group.status = status
    if not was_open:
        return
    state.shut_group(group)
    if group.parent_id is not None:
        _changed_group(state, group.parent_id).active -= 1
        state.index.touched_groups[group.parent_id] = None


def _group_closed(state: Folding, event: ev.GroupClosed, _stamp: Stamp) -> None:
    _shut_group(state, event.group_id, GroupStatus.SKIPPED)


def _group_failed(state: Folding, event: ev.GroupFailed, _stamp: Stamp) -> None:
    _shut_group(state, event.group_id, GroupStatus.FAILED)


def _group_cancelled(state: Folding, event: ev.GroupCancelled, _stamp: Stamp) -> None:
    _shut_group(state, event.group_id, GroupStatus.CANCELLED)


def _failure_tolerated(state: Folding, event: ev.GroupFailureTolerated, _stamp: Stamp) -> None:
    _changed_group(state, event.group_id).failures += 1
    state.index.touched_groups[event.group_id] = None


def _fan_in_completed(state: Folding, event: ev.FanInCompleted, _stamp: Stamp) -> None:
    consumed = event.token_ids if event.token_ids is not None else tuple(state.index.arrivals.get(event.join_id, ()))
    for token_id in consumed:
        _end_token(state, state.tokens[token_id], TokenStatus.COMPLETED)
    if event.join_id in state.groups:
        _shut_group(state, event.join_id, GroupStatus.FIRED)
    else:
        state.index.touched_joins[event.join_id] = None


_EVOLVE: Final[MappingProxyType[type[ev.WorkflowEvent], Callable[[Folding, Any, Stamp], None]]] = MappingProxyType(
    {
        ev.WorkflowStarted: _started,
        ev.WorkflowCompleted: _workflow_completed,
        ev.WorkflowFailed: _workflow_failed,
        ev.WorkflowTimedOut: _workflow_timed_out,
        ev.WorkflowCancelRequested: _cancel_requested,
        ev.WorkflowCancelled: _workflow_cancelled,
        ev.RunResumed: _noted,
        ev.TokenCreated: _token_created,
        ev.FanOutStarted: _fan_out_started,
        ev.TokenCompleted: _token_completed,
        ev.TokenFailed: _token_failed,
        ev.TokenTimedOut: _token_failed,
        ev.TokenCancelled: _token_cancelled,
        ev.TokenWaiting: _token_waiting,
        ev.TokenRequeued: _token_requeued,
        ev.TaskDispatched: _task_dispatched,
        ev.TaskCompleted: _task_completed,
        ev.TaskFailed: _task_failed,
        ev.TaskRetryScheduled: _retry_scheduled,
        ev.NodeCompleted: _noted,
        ev.NodeFailed: _noted,
        ev.ContextUpdated: _context_updated,
        ev.ContextOutputApplied: _writes_applied,
        ev.GroupOpened: _group_opened,
        ev.GroupClosed: _group_closed,
        ev.GroupFailureTolerated: _failure_tolerated,
        ev.GroupFailed: _group_failed,
        ev.GroupCancelled: _group_cancelled,
        ev.BranchesMerged: _writes_applied,
        ev.FanInCompleted: _fan_in_completed,
    }
)


def describe(state: RunState) -> dict[str, Any]:
    """The state as users read it (`wonder state`): the run, its context, and live tokens; plain JSON values."""
    root = state.view("")
    live = [t for t in state.tokens.values() if t.status not in {"completed", "failed", "timed_out", "cancelled"}]
    return {
        "run": msgspec.to_builtins(state.run),
        "state": root["state"],
        "output": root["output"],
        "tokens": [msgspec.to_builtins(token) for token in live],
        "groups": [msgspec.to_builtins(group) for group in state.groups.values() if group.status is GroupStatus.OPEN],
    }
