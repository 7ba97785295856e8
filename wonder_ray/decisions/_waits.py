"""Decisions about what waits for the world: gates, signals, timers, locks and child runs."""

from __future__ import annotations

from typing import Any

from wonder_ray.decisions._base import Decision


class OpenGate(Decision, frozen=True, tag="OPEN_GATE"):
    """A gate shall ask (again) -> `gate.opened`, and the token waits for the answer."""

    token_id: str
    assignee: Any = None
    shown: Any = None
    """What who answers is shown."""
    deadline_us: int | None = None
    due_us: int | None = None
    """When it is escalated next, or times out."""


class AcceptAnswer(Decision, frozen=True, tag="ACCEPT_ANSWER"):
    """An answer keeps to its gate's schema -> `gate.answered`: it becomes the token's result."""

    token_id: str
    answer_id: str


class RefuseAnswer(Decision, frozen=True, tag="REFUSE_ANSWER"):
    """An answer breaks its gate's schema -> `gate.answer_refused`: the gate asks again."""

    token_id: str
    answer_id: str
    problems: tuple[str, ...]


class EscalateGate(Decision, frozen=True, tag="ESCALATE_GATE"):
    """A gate was not answered in time, and asks somebody else -> `gate.escalated`."""

    token_id: str
    level: int
    assignee: Any
    due_us: int | None = None


class AwaitSignal(Decision, frozen=True, tag="AWAIT_SIGNAL"):
    """A token shall wait for a signal -> `signal.awaited`."""

    token_id: str
    signal: str
    deadline_us: int | None = None


class ConsumeSignal(Decision, frozen=True, tag="CONSUME_SIGNAL"):
    """A token that waits gets a signal -> `signal.consumed`: its payload becomes the token's result."""

    token_id: str
    signal_id: str


class DropSignal(Decision, frozen=True, tag="DROP_SIGNAL"):
    """A signal that is not kept came while nobody waited -> `signal.dropped`."""

    signal_id: str


class SetTimer(Decision, frozen=True, tag="SET_TIMER"):
    """A token shall wait for a time -> `timer.set`."""

    token_id: str
    due_us: int


class FireTimer(Decision, frozen=True, tag="FIRE_TIMER"):
    """A timer's time has come -> `timer.fired`."""

    token_id: str


class RequestLocks(Decision, frozen=True, tag="REQUEST_LOCKS"):
    """A token that may not start yet queues up for mutexes or its concurrency key -> `mutex.requested`."""

    token_id: str
    names: tuple[str, ...]


class AcquireLocks(Decision, frozen=True, tag="ACQUIRE_LOCKS"):
    """A token's turn has come: it holds the locks until it ends -> `mutex.acquired`."""

    token_id: str
    names: tuple[str, ...]


class StartChild(Decision, frozen=True, tag="START_CHILD"):
    """A child run shall exist -> `subworkflow.requested`, and the token waits for its end."""

    token_id: str
    attempt: int
    child_run_id: str
    workflow: str
    version: str | None = None
    input: Any = None
    due_us: int | None = None


class CancelChild(Decision, frozen=True, tag="CANCEL_CHILD"):
    """A child run shall end -> `subworkflow.cancel_requested`."""

    child_run_id: str
    reason: str
