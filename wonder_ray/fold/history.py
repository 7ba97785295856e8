"""`evolve` and `fold`: which event changes what, in which order events must come, and how a state is shown."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.errors import HistoryConflictError
from wonder_ray.fold import context, groups, tokens
from wonder_ray.fold.changes import Folding, new_state
from wonder_ray.state import HELD_OPEN, TERMINAL_TOKEN, ErrorRecord, RunStatus, check_run_move
from wonder_ray.values import own
from wonder_ray.workflow_events import Stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wonder_ray.run_state import RunState


def fold(run_id: str, rows: Iterable[dict[str, Any]], *, at: int | None = None) -> Folding:
    """The state after a run's event rows, in sequence; with `at`, the state at the end of the turn that holds it.

    Raises `HistoryConflictError` when a sequence number is missing or doubled.
    """
    state = new_state(run_id)
    last_turn: int | None = None
    for row in rows:
        stamp = Stamp(row["sequence_number"], row["turn"], as_us(row["turn_now"]), row["epoch"])
        if last_turn is not None and stamp.turn > last_turn:
            break
        evolve(state, ev.decode_event(row), stamp)
        if at is not None and stamp.sequence_number >= at:
            last_turn = stamp.turn
    return state


def as_us(moment: Any) -> int:
    """A time in microseconds: an int in lines, a datetime in Parquet rows."""
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


def _resumed(state: Folding, _event: ev.RunResumed, _stamp: Stamp) -> None:
    """From here on a state that was folded, or kept, sees the same order of things as one that was loaded."""
    state.rebuild_index()


def _noted(_state: Folding, _event: ev.WorkflowEvent, _stamp: Stamp) -> None:
    """The event reports something that is not part of the state."""


_EVOLVE: Final[MappingProxyType[type[ev.WorkflowEvent], Callable[[Folding, Any, Stamp], None]]] = MappingProxyType(
    {
        ev.WorkflowStarted: _started,
        ev.WorkflowCompleted: _workflow_completed,
        ev.WorkflowFailed: _workflow_failed,
        ev.WorkflowTimedOut: _workflow_timed_out,
        ev.WorkflowCancelRequested: _cancel_requested,
        ev.WorkflowCancelled: _workflow_cancelled,
        ev.RunResumed: _resumed,
        ev.TokenCreated: tokens.token_created,
        ev.FanOutStarted: tokens.fan_out_started,
        ev.TokenCompleted: tokens.token_completed,
        ev.TokenFailed: tokens.token_failed,
        ev.TokenTimedOut: tokens.token_failed,
        ev.TokenCancelled: tokens.token_cancelled,
        ev.TokenWaiting: tokens.token_waiting,
        ev.TokenRequeued: tokens.token_requeued,
        ev.TaskDispatched: tokens.task_dispatched,
        ev.TaskCompleted: tokens.task_completed,
        ev.TaskFailed: tokens.task_failed,
        ev.TaskRetryScheduled: tokens.retry_scheduled,
        ev.NodeCompleted: _noted,
        ev.NodeFailed: _noted,
        ev.ContextUpdated: context.context_updated,
        ev.ContextOutputApplied: context.writes_applied,
        ev.BranchesMerged: context.writes_applied,
        ev.GroupOpened: groups.group_opened,
        ev.GroupClosed: groups.group_closed,
        ev.GroupFailureTolerated: groups.failure_tolerated,
        ev.GroupFailed: groups.group_failed,
        ev.GroupCancelled: groups.group_cancelled,
        ev.FanInCompleted: groups.fan_in_completed,
        ev.FanInAbsorbed: groups.fan_in_absorbed,
        ev.FanInReset: groups.fan_in_reset,
    }
)


def describe(state: RunState) -> dict[str, Any]:
    """The state as users read it (`wonder state`): the run, its context, and live tokens; plain JSON values."""
    root = state.view("")
    return {
        "run": msgspec.to_builtins(state.run),
        "state": root["state"],
        "output": root["output"],
        "tokens": [msgspec.to_builtins(token) for token in state.tokens.values() if token.status not in TERMINAL_TOKEN],
        "groups": [msgspec.to_builtins(group) for group in state.groups.values() if group.status in HELD_OPEN],
    }
