"""Events about what waits for the world: gates, signals, timers, locks and child runs."""

from __future__ import annotations

from typing import Any

from wonder_ray.state import ErrorRecord
from wonder_ray.workflow_events._base import TokenEvent, WorkflowEvent


class GateOpened(TokenEvent, frozen=True, tag="gate.opened"):
    """After a gate has begun to ask; again after each answer that it refused."""

    assignee: Any = None
    shown: Any = None
    deadline_us: int | None = None
    due_us: int | None = None


class GateAnswerReceived(WorkflowEvent, frozen=True, tag="gate.answer_received"):
    """After an answer has been made durable; it is kept until a gate takes or refuses it."""

    gate: str
    """The gate's node, or its token."""
    answer_id: str
    answer: Any = None
    by: str | None = None
    key: str | None = None


class GateAnswered(TokenEvent, frozen=True, tag="gate.answered"):
    """After a gate has taken an answer, which is now its token's result."""

    answer_id: str
    by: str | None = None


class GateAnswerRefused(TokenEvent, frozen=True, tag="gate.answer_refused"):
    """After a gate has refused an answer that breaks its schema."""

    answer_id: str
    problems: tuple[str, ...]
    message: str | None = None


class GateEscalated(TokenEvent, frozen=True, tag="gate.escalated"):
    """After a gate that was not answered in time asks somebody else."""

    level: int
    assignee: Any = None
    due_us: int | None = None


class SignalAwaited(TokenEvent, frozen=True, tag="signal.awaited"):
    """After a token has begun to wait for a signal."""

    signal: str
    deadline_us: int | None = None


class SignalReceived(WorkflowEvent, frozen=True, tag="signal.received"):
    """After a signal has been made durable."""

    signal: str
    signal_id: str
    payload: Any = None
    key: str | None = None


class SignalConsumed(TokenEvent, frozen=True, tag="signal.consumed"):
    """After a token has got a signal, whose payload is now its result."""

    signal_id: str


class SignalDropped(WorkflowEvent, frozen=True, tag="signal.dropped"):
    """After a signal that is not kept came while nobody waited for it."""

    signal: str
    signal_id: str


class TimerSet(TokenEvent, frozen=True, tag="timer.set"):
    """After a token has begun to wait for a time."""

    due_us: int


class TimerFired(TokenEvent, frozen=True, tag="timer.fired"):
    """After a timer's time has come."""


class MutexRequested(TokenEvent, frozen=True, tag="mutex.requested"):
    """After a token has queued up for locks that others hold."""

    names: tuple[str, ...]
    """`mutex:<name>`, `key:<value>`."""


class MutexAcquired(TokenEvent, frozen=True, tag="mutex.acquired"):
    """After a token has got its locks, which it holds until it ends (or hands on to its successors)."""

    names: tuple[str, ...]


class SubworkflowRequested(TokenEvent, frozen=True, tag="subworkflow.requested"):
    """After a child run was asked for, and its token waits for its end."""

    attempt: int
    child_run_id: str
    workflow: str
    version: str | None = None
    input: Any = None
    due_us: int | None = None


class SubworkflowStarted(TokenEvent, frozen=True, tag="subworkflow.started"):
    """After a child run exists."""

    attempt: int
    child_run_id: str
    version: str | None = None


class SubworkflowCompleted(TokenEvent, frozen=True, tag="subworkflow.completed"):
    """After a child run has completed; its output is its token's result, if that still waits."""

    attempt: int
    child_run_id: str
    result: Any = None
    duration_ms: float | None = None


class SubworkflowFailed(TokenEvent, frozen=True, tag="subworkflow.failed"):
    """After a child run has ended without completing."""

    attempt: int
    child_run_id: str
    status: str
    error: ErrorRecord
    message: str | None = None
    duration_ms: float | None = None


class SubworkflowCancelRequested(TokenEvent, frozen=True, tag="subworkflow.cancel_requested"):
    """After it was decided that a child run is to end."""

    attempt: int
    child_run_id: str
    reason: str
