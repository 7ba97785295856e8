"""How events change the run itself: how it begins, waits, pauses and ends, and what it would take back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.state import Ending, ErrorRecord, RunStatus, Undo, check_run_move
from wonder_ray.values import own

if TYPE_CHECKING:
    from wonder_ray import workflow_events as ev
    from wonder_ray.fold.changes import Folding


def started(state: Folding, event: ev.WorkflowStarted, stamp: ev.Stamp) -> None:
    """The run has begun."""
    run = state.run
    _move(state, RunStatus.RUNNING)
    run.workflow_name = event.workflow_name
    run.workflow_version = event.workflow_version
    run.input = own(event.input)
    run.started_us = stamp.turn_now
    run.deadline_us = event.deadline_us
    run.depth = event.depth


def _move(state: Folding, to: RunStatus) -> None:
    check_run_move(state.run, to)
    state.run.status = to


def resumed(state: Folding, _event: ev.RunResumed, _stamp: ev.Stamp) -> None:
    """From here on a state that was folded, or kept, sees the same order of things as one that was loaded."""
    state.rebuild_index()


def paused(state: Folding, event: ev.WorkflowPaused, _stamp: ev.Stamp) -> None:
    """Nothing new is started."""
    _move(state, RunStatus.PAUSED)
    state.run.pause_reason = event.reason


def unpaused(state: Folding, _event: ev.WorkflowResumed, _stamp: ev.Stamp) -> None:
    """It goes on."""
    running(state, _event, _stamp)
    state.run.pause_reason = None


def waiting(state: Folding, _event: ev.WorkflowWaiting, _stamp: ev.Stamp) -> None:
    """Nothing is under way."""
    _move(state, RunStatus.WAITING)


def running(state: Folding, _event: ev.WorkflowEvent, _stamp: ev.Stamp) -> None:
    """Something is under way again."""
    _move(state, RunStatus.RUNNING)


def cancel_requested(state: Folding, event: ev.WorkflowCancelRequested, _stamp: ev.Stamp) -> None:
    """Somebody wants the run to stop."""
    state.run.cancel_reason = event.reason


# --- the end ---------------------------------------------------------------------------------------------------------


def ending(state: Folding, event: ev.WorkflowEnding, _stamp: ev.Stamp) -> None:
    """The run's end is decided."""
    _move(state, RunStatus.CANCELLING)
    decided = event.ending
    state.run.ending = Ending(
        status=decided.status,
        error=decided.error,
        reason=decided.reason,
        output=own(decided.output),
        compensate=decided.compensate,
    )


def compensation_started(state: Folding, _event: ev.CompensationStarted, _stamp: ev.Stamp) -> None:
    """The undos begin."""
    _move(state, RunStatus.COMPENSATING)


def compensation_registered(state: Folding, event: ev.CompensationRegistered, stamp: ev.Stamp) -> None:
    """Work can be taken back."""
    undo = Undo(id=event.token_id, ordinal=stamp.sequence_number, node_id=event.undo_node_id, input=own(event.input))
    state.put_undo(undo)


def compensation_ended(state: Folding, event: ev.CompensationCompleted | ev.CompensationFailed, _stamp: ev.Stamp) -> None:
    """It was, or cannot be."""
    state.drop_record("undo", event.token_id)


def completed(state: Folding, event: ev.WorkflowCompleted, stamp: ev.Stamp) -> None:
    """The run has its output."""
    _end(state, RunStatus.COMPLETED, stamp)
    state.run.output = own(event.output)


def failed(state: Folding, event: ev.WorkflowFailed, stamp: ev.Stamp) -> None:
    """The run has an error."""
    _end(state, RunStatus.FAILED, stamp, event.error)


def timed_out(state: Folding, event: ev.WorkflowTimedOut, stamp: ev.Stamp) -> None:
    """The run has taken too long."""
    _end(state, RunStatus.TIMED_OUT, stamp, event.error)


def cancelled(state: Folding, event: ev.WorkflowCancelled, stamp: ev.Stamp) -> None:
    """The run was stopped."""
    _end(state, RunStatus.CANCELLED, stamp, ErrorRecord(type="Cancelled", message=event.reason, kind="user"))


def _end(state: Folding, status: RunStatus, stamp: ev.Stamp, error: ErrorRecord | None = None) -> None:
    _move(state, status)
    state.run.error = error
    state.run.ended_us = stamp.turn_now
