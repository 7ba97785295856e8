"""`evolve` and `fold`: which event changes what, in which order events must come, and how a state is shown."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.errors import HistoryConflictError
from wonder_ray.fold import context, forking, groups, runs, tokens, waits
from wonder_ray.fold.changes import Folding, new_state
from wonder_ray.state import HELD_OPEN, TERMINAL_TOKEN
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


def _noted(_state: Folding, _event: ev.WorkflowEvent, _stamp: Stamp) -> None:
    """The event reports something that is not part of the state."""


_EVOLVE: Final[MappingProxyType[type[ev.WorkflowEvent], Callable[[Folding, Any, Stamp], None]]] = MappingProxyType(
    {
        ev.WorkflowStarted: runs.started,
        ev.WorkflowPaused: runs.paused,
        ev.WorkflowResumed: runs.unpaused,
        ev.WorkflowWaiting: runs.waiting,
        ev.WorkflowRunning: runs.running,
        ev.WorkflowCancelRequested: runs.cancel_requested,
        ev.WorkflowEnding: runs.ending,
        ev.WorkflowCompleted: runs.completed,
        ev.WorkflowFailed: runs.failed,
        ev.WorkflowTimedOut: runs.timed_out,
        ev.WorkflowCancelled: runs.cancelled,
        ev.CompensationRegistered: runs.compensation_registered,
        ev.CompensationStarted: runs.compensation_started,
        ev.CompensationCompleted: runs.compensation_ended,
        ev.CompensationFailed: runs.compensation_ended,
        ev.UpdateReceived: _noted,
        ev.RunResumed: runs.resumed,
        ev.RunForked: forking.forked,
        ev.RunRestored: forking.restored,
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
        ev.GroupMembersAdded: groups.members_added,
        ev.GroupSealed: groups.group_sealed,
        ev.GroupCompletedEarly: groups.group_completed_early,
        ev.FanInCompleted: groups.fan_in_completed,
        ev.FanInAbsorbed: groups.fan_in_absorbed,
        ev.FanInReset: groups.fan_in_reset,
        ev.GateOpened: waits.gate_opened,
        ev.GateAnswerReceived: waits.gate_answer_received,
        ev.GateAnswered: waits.gate_answered,
        ev.GateAnswerRefused: waits.gate_answer_refused,
        ev.GateEscalated: waits.gate_escalated,
        ev.SignalAwaited: waits.signal_awaited,
        ev.SignalReceived: waits.signal_received,
        ev.SignalConsumed: waits.signal_consumed,
        ev.SignalDropped: waits.signal_dropped,
        ev.TimerSet: waits.timer_set,
        ev.TimerFired: waits.timer_fired,
        ev.MutexRequested: waits.mutex_requested,
        ev.MutexAcquired: waits.mutex_acquired,
        ev.SubworkflowRequested: waits.child_requested,
        ev.SubworkflowStarted: waits.child_started,
        ev.SubworkflowCompleted: waits.child_completed,
        ev.SubworkflowFailed: waits.child_failed,
        ev.SubworkflowCancelRequested: waits.child_cancel_requested,
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
        "kept": [msgspec.to_builtins(kept) for kept in state.kept.values()],
        "children": [msgspec.to_builtins(child) for child in state.children.values()],
        "undos": [msgspec.to_builtins(undo) for undo in state.undos.values()],
    }
