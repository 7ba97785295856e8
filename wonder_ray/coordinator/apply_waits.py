"""Executing decisions about what waits for the world, and about how a run ends: the events that report them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypedDict

from wonder_ray import decisions as dec
from wonder_ray import workflow_events as ev

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wonder_ray.run_state import RunState
    from wonder_ray.state import Token

    Handler = Callable[[RunState, Any], Iterable[ev.WorkflowEvent]]


class About(TypedDict):
    """Which token an event is about."""

    token_id: str
    node_id: str
    path_id: str


def about(token: Token) -> About:
    """The fields that events about a token share."""
    return {"token_id": token.id, "node_id": token.node_id, "path_id": token.path_id}


# --- gates, signals, timers ------------------------------------------------------------------------------------------


def _open_gate(state: RunState, d: dec.OpenGate) -> Iterable[ev.WorkflowEvent]:
    return [
        ev.GateOpened(
            **about(state.tokens[d.token_id]), assignee=d.assignee, shown=d.shown, deadline_us=d.deadline_us, due_us=d.due_us
        )
    ]


def _accept_answer(state: RunState, d: dec.AcceptAnswer) -> Iterable[ev.WorkflowEvent]:
    return [ev.GateAnswered(**about(state.tokens[d.token_id]), answer_id=d.answer_id, by=state.kept[d.answer_id].by)]


def _refuse_answer(state: RunState, d: dec.RefuseAnswer) -> Iterable[ev.WorkflowEvent]:
    which = about(state.tokens[d.token_id])
    return [ev.GateAnswerRefused(**which, answer_id=d.answer_id, problems=d.problems, message="; ".join(d.problems))]


def _escalate_gate(state: RunState, d: dec.EscalateGate) -> Iterable[ev.WorkflowEvent]:
    return [ev.GateEscalated(**about(state.tokens[d.token_id]), level=d.level, assignee=d.assignee, due_us=d.due_us)]


def _await_signal(state: RunState, d: dec.AwaitSignal) -> Iterable[ev.WorkflowEvent]:
    return [ev.SignalAwaited(**about(state.tokens[d.token_id]), signal=d.signal, deadline_us=d.deadline_us)]


def _consume_signal(state: RunState, d: dec.ConsumeSignal) -> Iterable[ev.WorkflowEvent]:
    return [ev.SignalConsumed(**about(state.tokens[d.token_id]), signal_id=d.signal_id)]


def _drop_signal(state: RunState, d: dec.DropSignal) -> Iterable[ev.WorkflowEvent]:
    return [ev.SignalDropped(signal=state.kept[d.signal_id].name, signal_id=d.signal_id)]


def _set_timer(state: RunState, d: dec.SetTimer) -> Iterable[ev.WorkflowEvent]:
    return [ev.TimerSet(**about(state.tokens[d.token_id]), due_us=d.due_us)]


def _fire_timer(state: RunState, d: dec.FireTimer) -> Iterable[ev.WorkflowEvent]:
    return [ev.TimerFired(**about(state.tokens[d.token_id]))]


# --- locks -----------------------------------------------------------------------------------------------------------


def _request_locks(state: RunState, d: dec.RequestLocks) -> Iterable[ev.WorkflowEvent]:
    return [ev.MutexRequested(**about(state.tokens[d.token_id]), names=d.names)]


def _acquire_locks(state: RunState, d: dec.AcquireLocks) -> Iterable[ev.WorkflowEvent]:
    return [ev.MutexAcquired(**about(state.tokens[d.token_id]), names=d.names)]


# --- child runs ------------------------------------------------------------------------------------------------------


def _start_child(state: RunState, d: dec.StartChild) -> Iterable[ev.WorkflowEvent]:
    return [
        ev.SubworkflowRequested(
            **about(state.tokens[d.token_id]),
            attempt=d.attempt,
            child_run_id=d.child_run_id,
            workflow=d.workflow,
            version=d.version,
            input=d.input,
            due_us=d.due_us,
        )
    ]


def _cancel_child(state: RunState, d: dec.CancelChild) -> Iterable[ev.WorkflowEvent]:
    child = state.children[d.child_run_id]
    assert child.cancelled is None, "a token stops waiting for a child that is told to end"
    which = about(state.tokens[child.token_id])
    return [ev.SubworkflowCancelRequested(**which, attempt=child.attempt, child_run_id=child.id, reason=d.reason)]


# --- the end ---------------------------------------------------------------------------------------------------------


def _begin_ending(_state: RunState, d: dec.BeginEnding) -> Iterable[ev.WorkflowEvent]:
    return [ev.WorkflowEnding(ending=d.ending)]


def _register_undo(state: RunState, d: dec.RegisterUndo) -> Iterable[ev.WorkflowEvent]:
    return [ev.CompensationRegistered(**about(state.tokens[d.token_id]), undo_node_id=d.node_id, input=d.input)]


def _start_compensation(_state: RunState, d: dec.StartCompensation) -> Iterable[ev.WorkflowEvent]:
    return [ev.CompensationStarted(undos=d.undos)]


def _complete_undo(state: RunState, d: dec.CompleteUndo) -> Iterable[ev.WorkflowEvent]:
    which = about(state.tokens[d.undo_id])
    if d.error is None:
        return [ev.CompensationCompleted(**which)]
    return [ev.CompensationFailed(**which, error=d.error, message=d.error.message)]


def _mark_run_waiting(_state: RunState, _d: dec.MarkRunWaiting) -> Iterable[ev.WorkflowEvent]:
    return [ev.WorkflowWaiting()]


def _mark_run_running(_state: RunState, _d: dec.MarkRunRunning) -> Iterable[ev.WorkflowEvent]:
    return [ev.WorkflowRunning()]


def _complete_workflow(_state: RunState, d: dec.CompleteWorkflow) -> Iterable[ev.WorkflowEvent]:
    return [ev.WorkflowCompleted(output=d.output)]


def _fail_workflow(_state: RunState, d: dec.FailWorkflow) -> Iterable[ev.WorkflowEvent]:
    return [ev.WorkflowFailed(error=d.error, message=d.error.message)]


def _cancel_workflow(_state: RunState, d: dec.CancelWorkflow) -> Iterable[ev.WorkflowEvent]:
    return [ev.WorkflowCancelled(reason=d.reason)]


def _time_out_workflow(_state: RunState, d: dec.TimeOutWorkflow) -> Iterable[ev.WorkflowEvent]:
    return [ev.WorkflowTimedOut(error=d.error, message=d.error.message)]


WAIT_HANDLERS: Final[MappingProxyType[type[dec.Decision], Handler]] = MappingProxyType(
    {
        dec.OpenGate: _open_gate,
        dec.AcceptAnswer: _accept_answer,
        dec.RefuseAnswer: _refuse_answer,
        dec.EscalateGate: _escalate_gate,
        dec.AwaitSignal: _await_signal,
        dec.ConsumeSignal: _consume_signal,
        dec.DropSignal: _drop_signal,
        dec.SetTimer: _set_timer,
        dec.FireTimer: _fire_timer,
        dec.RequestLocks: _request_locks,
        dec.AcquireLocks: _acquire_locks,
        dec.StartChild: _start_child,
        dec.CancelChild: _cancel_child,
        dec.BeginEnding: _begin_ending,
        dec.RegisterUndo: _register_undo,
        dec.StartCompensation: _start_compensation,
        dec.CompleteUndo: _complete_undo,
        dec.MarkRunWaiting: _mark_run_waiting,
        dec.MarkRunRunning: _mark_run_running,
        dec.CompleteWorkflow: _complete_workflow,
        dec.FailWorkflow: _fail_workflow,
        dec.CancelWorkflow: _cancel_workflow,
        dec.TimeOutWorkflow: _time_out_workflow,
    }
)
