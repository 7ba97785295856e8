"""Nodes that a coordinator starts itself: gates, signals, timers and child runs; and what time does to those that wait."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.decisions import (
    AcceptAnswer,
    AwaitSignal,
    CancelChild,
    ConsumeSignal,
    Decision,
    EscalateGate,
    FireTimer,
    OpenGate,
    RefuseAnswer,
    SetTimer,
    StartChild,
    UpdateTokenStatus,
)
from wonder_ray.errors import ExpressionError
from wonder_ray.ids import child_run_id
from wonder_ray.planning.lifecycle import attempt_failed, timeout_error
from wonder_ray.planning.schemas import problems_of
from wonder_ray.planning.scope import expression_failure, expression_scope, render_input
from wonder_ray.state import ErrorRecord, Token, TokenStatus

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import Graph, NodeSpec
    from wonder_ray.definitions.node_specs import GateSpec
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Kept

_SECONDS_MAX: Final = 10_000 * 366 * 86_400
"""Ten thousand years: more is a mistake, and would overflow a 64-bit count of microseconds."""


def start_waiting(state: RunState, graph: Graph, node: NodeSpec, token: Token) -> list[Decision]:
    """The decisions with which a token begins to wait at its node."""
    try:
        if node.gate is not None:
            return _open_gate(state, node, node.gate, token)
        if node.signal is not None:
            return _await_signal(state, node, token)
        if node.timer is not None:
            return _set_timer(state, node, token)
        return _start_child(state, graph, node, token)
    except ExpressionError as error:
        failure = expression_failure(error, node.id, node.kind)
        return [UpdateTokenStatus(token_id=token.id, status=TokenStatus.FAILED, error=failure)]


def _deadline_us(state: RunState, node: NodeSpec) -> int | None:
    return None if node.timeout_us is None else state.now_us + node.timeout_us


# --- gates -----------------------------------------------------------------------------------------------------------


def _open_gate(state: RunState, node: NodeSpec, gate: GateSpec, token: Token) -> list[Decision]:
    scope = expression_scope(state, token)
    deadline_us = _deadline_us(state, node)
    opened = OpenGate(
        token_id=token.id,
        assignee=None if gate.assignee is None else gate.assignee.evaluate(scope),
        shown=render_input(state, node, token) if node.input else None,
        deadline_us=deadline_us,
        due_us=_next_due_us(gate, state.now_us, 0, deadline_us),
    )
    decisions: list[Decision] = [opened]
    for kept in state.kept.values():
        if kept.kind == "answer" and kept.name in {node.id, token.id}:
            decisions += answer(node, token, kept)
            if isinstance(decisions[-1], AcceptAnswer):
                break
    return decisions


def _next_due_us(gate: GateSpec, since_us: int, level: int, deadline_us: int | None) -> int | None:
    times = [] if deadline_us is None else [deadline_us]
    if level < len(gate.escalations):
        times.append(since_us + gate.escalations[level][0])
    return min(times, default=None)


def answer(node: NodeSpec, token: Token, kept: Kept) -> list[Decision]:
    """What a gate makes of an answer: it takes it, or refuses it and asks again."""
    problems = problems_of(node.gate.answer if node.gate is not None else None, kept.payload)
    if not problems:
        return [AcceptAnswer(token_id=token.id, answer_id=kept.id)]
    return [RefuseAnswer(token_id=token.id, answer_id=kept.id, problems=problems), OpenGate(token_id=token.id)]


def _gate_is_due(state: RunState, node: NodeSpec, gate: GateSpec, token: Token) -> list[Decision]:
    wait = token.wait
    if wait is None or (wait.deadline_us is not None and wait.deadline_us <= state.now_us):
        return [_timed_out(node, token)]
    level = wait.level + 1
    due_us = _next_due_us(gate, wait.since_us, level, wait.deadline_us)
    try:
        assignee = gate.escalations[wait.level][1].evaluate(expression_scope(state, token))
    except ExpressionError as error:
        failure = expression_failure(error, node.id, "escalation")
        return [UpdateTokenStatus(token_id=token.id, status=TokenStatus.FAILED, error=failure)]
    return [EscalateGate(token_id=token.id, level=level, assignee=assignee, due_us=due_us)]


def _timed_out(node: NodeSpec, token: Token) -> Decision:
    seconds = (node.timeout_us or 0) / 1_000_000
    message = f"nothing came to node {node.id!r} within its {seconds:g} s"
    error = ErrorRecord("Timeout", message, retryable=False, kind="timeout", node_id=node.id)
    return UpdateTokenStatus(token_id=token.id, status=TokenStatus.TIMED_OUT, error=error)


# --- signals and timers ----------------------------------------------------------------------------------------------


def _await_signal(state: RunState, node: NodeSpec, token: Token) -> list[Decision]:
    signal = node.signal
    assert signal is not None, "only wait_signal nodes come here"
    decisions: list[Decision] = [AwaitSignal(token_id=token.id, signal=signal.name, deadline_us=_deadline_us(state, node))]
    early = (kept for kept in state.kept.values() if kept.kind == "signal" and kept.name == signal.name)
    kept = next(early, None) if signal.retained else None
    return decisions if kept is None else [*decisions, ConsumeSignal(token_id=token.id, signal_id=kept.id)]


def waiter_for(state: RunState, graph: Graph, name: str) -> Token | None:
    """Who has waited longest for a signal."""
    firsts = []
    for node_id in graph.listeners.get(name, ()):
        waiting = state.index.waits.get(node_id)
        if waiting:
            firsts.append(state.tokens[next(iter(waiting))])
    return min(firsts, key=lambda token: 0 if token.wait is None else token.wait.at, default=None)


def _set_timer(state: RunState, node: NodeSpec, token: Token) -> list[Decision]:
    timer = node.timer
    assert timer is not None, "only timer nodes come here"
    if timer.until is not None:
        due_us = _moment_us(timer.until.evaluate(expression_scope(state, token)), timer.until.text)
    elif timer.duration is None or isinstance(timer.duration, int):
        due_us = state.now_us + (timer.duration or 0)
    else:
        due_us = state.now_us + _seconds_us(timer.duration.evaluate(expression_scope(state, token)), timer.duration.text)
    decisions: list[Decision] = [SetTimer(token_id=token.id, due_us=due_us)]
    return decisions if due_us > state.now_us else [*decisions, FireTimer(token_id=token.id)]


def _seconds_us(value: Any, text: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _SECONDS_MAX:
        msg = f"duration_s {text!r} gave {value!r:.200}; it must be a number of seconds of at least 0"
        raise ExpressionError(msg)
    return round(value * 1_000_000)


def _moment_us(value: Any, text: str) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _SECONDS_MAX:
        return round(value * 1_000_000)
    if isinstance(value, str):
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            return round(moment.timestamp() * 1_000_000)
    msg = (
        f"until {text!r} gave {value!r:.200}; it must be a time with its zone (such as '2026-11-25T09:00:00Z'), "
        "or seconds since 1970"
    )
    raise ExpressionError(msg)


# --- child runs ------------------------------------------------------------------------------------------------------


def _start_child(state: RunState, graph: Graph, node: NodeSpec, token: Token) -> list[Decision]:
    child = node.child
    assert child is not None, "only subworkflow nodes come here"
    attempt = token.attempt + 1
    if state.run.depth >= graph.max_depth:
        message = (
            f"a child run of {child.workflow!r} would be {state.run.depth + 1} deep, and max_depth is {graph.max_depth}; "
            "does the recursion end?"
        )
        error = ErrorRecord("DepthLimitExceeded", message, retryable=False, kind="child", node_id=node.id)
        return [UpdateTokenStatus(token_id=token.id, status=TokenStatus.FAILED, error=error)]
    return [
        StartChild(
            token_id=token.id,
            attempt=attempt,
            child_run_id=child_run_id(state.run.run_id, token.id, attempt, state.now_us),
            workflow=child.workflow,
            version=child.version or (state.run.workflow_version if child.workflow == state.run.workflow_name else None),
            input=render_input(state, node, token) if node.input else None,
            due_us=_deadline_us(state, node),
        )
    ]


# --- time ------------------------------------------------------------------------------------------------------------


def wait_is_due(state: RunState, graph: Graph, token: Token) -> list[Decision]:
    """What the passing of time does to a token that waits for the world."""
    node = graph.nodes[token.node_id]
    match token.status:
        case TokenStatus.WAITING_FOR_TIMER:
            return [FireTimer(token_id=token.id)]
        case TokenStatus.WAITING_FOR_GATE if node.gate is not None:
            return _gate_is_due(state, node, node.gate, token)
        case TokenStatus.WAITING_FOR_SIGNAL:
            return [_timed_out(node, token)]
        case _:
            error = timeout_error(node.id, (node.timeout_us or 0) / 1_000_000)
            stop = [CancelChild(child_run_id=token.child_id or "", reason=error.message)] if state.child_of(token) else []
            return [*stop, *attempt_failed(graph, token, error, state.now_us)]
