"""How a run begins and ends, and what time does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wonder_ray.decisions import (
    CompleteWorkflow,
    CreateToken,
    Decision,
    RequeueToken,
    UpdateTokenStatus,
)
from wonder_ray.errors import ExpressionError
from wonder_ray.ids import derive_id
from wonder_ray.planning.ending import end_run, fail_run
from wonder_ray.planning.retrying import retry
from wonder_ray.planning.scope import expression_failure, expression_scope
from wonder_ray.state import GOING_RUN, ROOT_PATH, Ending, ErrorRecord, RunStatus, Token, TokenStatus

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
    if state.run.status not in GOING_RUN or state.index.live or state.index.open_groups or state.children:
        return []
    output, error = output_of(state, graph)
    return [CompleteWorkflow(output=output)] if error is None else fail_run(state, error, f"the run failed: {error.type}")


def output_of(state: RunState, graph: Graph) -> tuple[Any, ErrorRecord | None]:
    """The run's output as things stand, or why there is none."""
    scope = expression_scope(state, None)
    if not graph.output:
        return scope["output"], None
    try:
        return {name: expression.evaluate(scope) for name, expression in graph.output}, None
    except ExpressionError as error:
        return None, expression_failure(error, "", "the workflow's output mapping")


def terminate(state: RunState, graph: Graph, token: Token) -> list[Decision]:
    """A token has reached a terminate node: the run ends as that says, whatever else goes on."""
    node = graph.nodes[token.node_id]
    reason = f"node {node.id!r} has ended the run"
    spec = node.terminate
    if spec is not None and spec.failed:
        message = spec.message or reason
        return fail_run(state, ErrorRecord(spec.error_type, message, retryable=False, kind="workflow", node_id=node.id), reason)
    output, error = output_of(state, graph)
    if error is not None:
        return fail_run(state, error, f"the run failed: {error.type}")
    return end_run(state, Ending(status=RunStatus.COMPLETED, output=output), reason)


def cancel(state: RunState, reason: str, *, compensate: bool) -> list[Decision]:
    """The run stops: all that is live is withdrawn, and (where that is wanted) its work taken back, then its terminal event."""
    return end_run(state, Ending(status=RunStatus.CANCELLED, reason=reason, compensate=compensate), reason)


def time_out(state: RunState, now_us: int) -> list[Decision]:
    """The run's own timeout, when it has passed."""
    run = state.run
    if run.status not in GOING_RUN or run.deadline_us is None or now_us < run.deadline_us:
        return []
    seconds = (run.deadline_us - (run.started_us or 0)) / 1_000_000
    error = ErrorRecord("RunTimeout", f"the run took longer than its timeout_s of {seconds:g} s", retryable=False, kind="timeout")
    return end_run(state, Ending(status=RunStatus.TIMED_OUT, error=error, compensate=True), "the run timed out")


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


def stuck(state: RunState, graph: Graph) -> list[Decision]:
    """Nothing in the run can go on any more: a guard that nothing can make true fails its node, all else fails the run."""
    guarded = sorted((state.tokens[token_id] for token_id in state.index.guarded), key=lambda token: token.ordinal)
    if any(graph.waits_for_updates(token.node_id) for token in guarded):
        return []
    if guarded:
        return [_never_holds(graph, guarded[0])]
    error = ErrorRecord("Deadlock", _deadlock(state), retryable=False, kind="join")
    return fail_run(state, error, "the run is deadlocked")


def _never_holds(graph: Graph, token: Token) -> Decision:
    guard = graph.nodes[token.node_id].guard
    text = "" if guard is None else guard.text
    message = f"the guard {text!r} of node {token.node_id!r} does not hold, and nothing that is left in the run can change that"
    error = ErrorRecord("GuardUnsatisfied", message, retryable=False, kind="guard", node_id=token.node_id)
    return UpdateTokenStatus(token_id=token.id, status=TokenStatus.FAILED, error=error)


def _deadlock(state: RunState) -> str:
    """What waits for what, in short."""
    waiting = [token for token in state.tokens.values() if token.status is TokenStatus.WAITING_FOR_SIBLINGS]
    locked = [state.tokens[token_id] for token_id in state.index.parked]
    places = [f"{node!r} ({join_id})" for node, join_id in sorted({(token.node_id, token.join_id) for token in waiting})]
    locks = sorted(f"{token.node_id!r} (for {', '.join(token.wanted)})" for token in locked)
    told = []
    if places:
        told.append(f"{len(waiting)} tokens wait at joins that nothing can reach any more: {', '.join(places[:5])}")
    if locks:
        told.append(f"{len(locked)} tokens wait for locks that nobody will release: {', '.join(locks[:5])}")
    return "; ".join(told) + "; check the joins and mutexes of the definition"
