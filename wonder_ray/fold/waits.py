"""How events change what waits for the world: gates, signals, timers, locks and child runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wonder_ray.fold.tokens import moved, set_due
from wonder_ray.state import Child, Kept, Token, TokenStatus, Wait
from wonder_ray.values import own

if TYPE_CHECKING:
    from wonder_ray import workflow_events as ev
    from wonder_ray.fold.changes import Folding


def gate_opened(state: Folding, event: ev.GateOpened, stamp: ev.Stamp) -> None:
    """A gate asks: for the first time, or again."""
    token = state.tokens[event.token_id]
    if token.status is TokenStatus.WAITING_FOR_GATE and token.wait is not None:
        token.wait = msgspec.structs.replace(token.wait, asked=token.wait.asked + 1)
        state.changes.tokens[token.id] = token
        return
    token.wait = Wait(
        since_us=stamp.turn_now,
        at=stamp.sequence_number,
        deadline_us=event.deadline_us,
        assignee=own(event.assignee),
        shown=own(event.shown),
    )
    moved(state, token.id, TokenStatus.WAITING_FOR_GATE)
    set_due(state, token, event.due_us)


def gate_answer_received(state: Folding, event: ev.GateAnswerReceived, stamp: ev.Stamp) -> None:
    """An answer is kept until a gate takes or refuses it."""
    state.keep(
        Kept(
            id=event.answer_id,
            ordinal=stamp.sequence_number,
            kind="answer",
            name=event.gate,
            payload=own(event.answer),
            by=event.by,
        )
    )


def gate_answered(state: Folding, event: ev.GateAnswered, _stamp: ev.Stamp) -> None:
    """The answer is the token's result."""
    _set_result(state, event.token_id, state.unkeep(event.answer_id))


def _set_result(state: Folding, token_id: str, kept: Kept) -> None:
    token = state.tokens[token_id]
    token.result = kept.payload
    state.changes.tokens[token_id] = token
    state.index.has_result.append(token_id)


def gate_answer_refused(state: Folding, event: ev.GateAnswerRefused, _stamp: ev.Stamp) -> None:
    """The answer is gone."""
    state.unkeep(event.answer_id)


def gate_escalated(state: Folding, event: ev.GateEscalated, _stamp: ev.Stamp) -> None:
    """Somebody else is asked."""
    token = state.tokens[event.token_id]
    assert token.wait is not None, "a gate is opened before it is escalated"
    token.wait = msgspec.structs.replace(token.wait, level=event.level, assignee=own(event.assignee))
    state.changes.tokens[token.id] = token
    set_due(state, token, event.due_us)


def signal_awaited(state: Folding, event: ev.SignalAwaited, stamp: ev.Stamp) -> None:
    """A token waits for a signal."""
    token = state.tokens[event.token_id]
    token.wait = Wait(since_us=stamp.turn_now, at=stamp.sequence_number, deadline_us=event.deadline_us)
    moved(state, token.id, TokenStatus.WAITING_FOR_SIGNAL)
    set_due(state, token, event.deadline_us)


def signal_received(state: Folding, event: ev.SignalReceived, stamp: ev.Stamp) -> None:
    """A signal is kept until it is consumed or dropped."""
    payload = own(event.payload)
    state.keep(Kept(id=event.signal_id, ordinal=stamp.sequence_number, kind="signal", name=event.signal, payload=payload))


def signal_consumed(state: Folding, event: ev.SignalConsumed, _stamp: ev.Stamp) -> None:
    """Its payload is the token's result."""
    _set_result(state, event.token_id, state.unkeep(event.signal_id))


def signal_dropped(state: Folding, event: ev.SignalDropped, _stamp: ev.Stamp) -> None:
    """The signal is gone."""
    state.unkeep(event.signal_id)


def timer_set(state: Folding, event: ev.TimerSet, stamp: ev.Stamp) -> None:
    """A token waits for a time."""
    token = state.tokens[event.token_id]
    token.wait = Wait(since_us=stamp.turn_now, at=stamp.sequence_number, deadline_us=event.due_us)
    moved(state, token.id, TokenStatus.WAITING_FOR_TIMER)
    set_due(state, token, event.due_us)


def timer_fired(state: Folding, event: ev.TimerFired, _stamp: ev.Stamp) -> None:
    """Its time has come."""
    state.index.has_result.append(event.token_id)


# --- locks -----------------------------------------------------------------------------------------------------------


def mutex_requested(state: Folding, event: ev.MutexRequested, stamp: ev.Stamp) -> None:
    """A token has queued up; where it is first by now, those before it have got what they wanted, and it is looked at again."""
    token = state.tokens[event.token_id]
    token.wanted = event.names
    token.wanted_at = stamp.sequence_number
    locks = state.index.locks
    locks.ask(token.id, token.wanted)
    if all(locks.is_next(token.id, name) for name in token.wanted):
        state.index.unpark((token.id,))
    state.changes.tokens[token.id] = token


def mutex_acquired(state: Folding, event: ev.MutexAcquired, _stamp: ev.Stamp) -> None:
    """A token holds its locks; where a lock admits several, the next in the queue may come, too."""
    token = state.tokens[event.token_id]
    wanted, token.wanted = token.wanted, ()
    token.holds = (*token.holds, *event.names)
    state.index.locks.take(token.id, event.names)
    state.index.unpark(state.index.locks.stop_asking(token.id, wanted))
    state.changes.tokens[token.id] = token


# --- child runs ------------------------------------------------------------------------------------------------------


def child_requested(state: Folding, event: ev.SubworkflowRequested, stamp: ev.Stamp) -> None:
    """A child run is to exist, and its token waits for its end."""
    token = moved(state, event.token_id, TokenStatus.WAITING_FOR_CHILD)
    token.attempt = event.attempt
    token.child_id = event.child_run_id
    set_due(state, token, event.due_us)
    state.put_child(
        Child(
            id=event.child_run_id,
            ordinal=stamp.sequence_number,
            token_id=event.token_id,
            attempt=event.attempt,
            workflow=event.workflow,
            version=event.version,
            input=own(event.input),
        )
    )


def child_started(state: Folding, event: ev.SubworkflowStarted, _stamp: ev.Stamp) -> None:
    """It exists."""
    child = state.children[event.child_run_id]
    child.started = True
    child.version = event.version
    state.put_child(child)


def child_cancel_requested(state: Folding, event: ev.SubworkflowCancelRequested, _stamp: ev.Stamp) -> None:
    """It is told to end."""
    child = state.children[event.child_run_id]
    child.cancelled = event.reason
    state.put_child(child)


def child_completed(state: Folding, event: ev.SubworkflowCompleted, _stamp: ev.Stamp) -> None:
    """It has ended; its output is its token's result, if that still waits for it."""
    token = _waiting_parent(state, event.child_run_id)
    if token is not None:
        token.result = own(event.result)
        state.changes.tokens[token.id] = token
        state.index.has_result.append(token.id)


def child_failed(state: Folding, event: ev.SubworkflowFailed, _stamp: ev.Stamp) -> None:
    """It has ended; its error is its token's, if that still waits for it."""
    token = _waiting_parent(state, event.child_run_id)
    if token is not None:
        token.error = event.error
        state.changes.tokens[token.id] = token
        state.index.has_failed.append(token.id)


def _waiting_parent(state: Folding, child_id: str) -> Token | None:
    token = state.tokens[state.children[child_id].token_id]
    state.drop_record("child", child_id)
    return token if token.status is TokenStatus.WAITING_FOR_CHILD and token.child_id == child_id else None
