"""How a run begins and ends, and what time does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.decisions import (
    CancelWorkflow,
    CompleteWorkflow,
    CreateToken,
    Decision,
    FailWorkflow,
    RequeueToken,
    TimeOutWorkflow,
    UpdateTokenStatus,
)
from wonder_ray.errors import ExpressionError
from wonder_ray.ids import derive_id
from wonder_ray.planning.cancelling import cancel_everything
from wonder_ray.planning.retrying import retry
from wonder_ray.planning.routing import expression_failure
from wonder_ray.planning.scope import expression_scope
from wonder_ray.state import ROOT_PATH, ErrorRecord, RunStatus, Token, TokenStatus

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState


def start_tokens(graph: Graph) -> list[Decision]:
    """One token at each start node."""
    return [CreateToken(token_id=derive_id("t", "start", node), node_id=node, path_id=ROOT_PATH) for node in graph.start]


def void_dispatches(state: RunState) -> list[Decision]:
    """After a coordinator's death: what it had dispatched is dispatched again, uncharged."""
    return [
        RequeueToken(token_id=token.id, reason="its coordinator was restarted")
        for token in state.tokens.values()
        if token.status is TokenStatus.DISPATCHED
    ]


def complete(state: RunState, graph: Graph) -> list[Decision]:
    """The run's end, once nothing is live in it."""
    run = state.run
    if run.status is not RunStatus.RUNNING or state.index.live:
        return []
    scope = expression_scope(state, None)
    try:
        if graph.output:
            return [CompleteWorkflow(output={name: expression.evaluate(scope) for name, expression in graph.output})]
    except ExpressionError as error:
        return [FailWorkflow(error=expression_failure(error, "", "the workflow's output mapping"))]
    return [CompleteWorkflow(output=scope["output"])]


def cancel(state: RunState, reason: str) -> list[Decision]:
    """The run stops: all that is live is withdrawn, then its terminal event."""
    if state.run.status is not RunStatus.RUNNING:
        return []
    return [*cancel_everything(state, reason), CancelWorkflow(reason=reason)]


def time_out(state: RunState, now_us: int) -> list[Decision]:
    """The run's own timeout, when it has passed."""
    run = state.run
    if run.status is not RunStatus.RUNNING or run.deadline_us is None or now_us < run.deadline_us:
        return []
    seconds = (run.deadline_us - (run.started_us or 0)) / 1_000_000
    error = ErrorRecord("RunTimeout", f"the run took longer than its timeout_s of {seconds:g} s", retryable=False, kind="timeout")
    return [*cancel_everything(state, "the run timed out"), TimeOutWorkflow(error=error)]


def timeout_error(node_id: str, seconds: float) -> ErrorRecord:
    """The failure of an attempt that took longer than its node's `timeout_s`."""
    message = f"an attempt of node {node_id!r} took longer than its {seconds:g} s"
    return ErrorRecord("Timeout", message, kind="timeout", node_id=node_id)


def attempt_failed(graph: Graph, token: Token, error: ErrorRecord, now_us: int) -> list[Decision]:
    """A retry, or the end of the token."""
    again = retry(graph.nodes[token.node_id], token, error, now_us)
    if again is not None:
        return [again]
    status = TokenStatus.TIMED_OUT if error.kind == "timeout" else TokenStatus.FAILED
    return [UpdateTokenStatus(token_id=token.id, status=status, error=error)]


def stuck(state: RunState) -> list[Decision]:
    """A run in which everything live waits for siblings that cannot come: fail it with what waits, rather than hang."""
    waiting = [token for token in state.tokens.values() if token.status is TokenStatus.WAITING_FOR_SIBLINGS]
    places = ", ".join(sorted({f"{token.node_id!r} ({token.join_id})" for token in waiting})[:5])
    message = f"{len(waiting)} tokens wait at joins that nothing can reach any more: {places}; check the joins of the definition"
    error = ErrorRecord("Deadlock", message, retryable=False, kind="join")
    return [*cancel_everything(state, "the run is deadlocked"), FailWorkflow(error=error)]
