"""The public face of the decision layer: facts and state in, decisions out; no clock, no I/O, no randomness.

`Router.decide` answers one fact. The coordinator executes the answer and then asks `Router.settle` for what follows from
it, until that is nothing. Both look at the state only, so the same history yields the same decisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wonder_ray.decisions import ApplyOutput, Decision, RequeueToken, SetContext, UpdateTokenStatus
from wonder_ray.errors import ExpressionError
from wonder_ray.planning import facts
from wonder_ray.planning.failing import decide_failure
from wonder_ray.planning.growth import Growth
from wonder_ray.planning.incoming import IncomingJoins
from wonder_ray.planning.lifecycle import (
    attempt_failed,
    cancel,
    complete,
    start_tokens,
    stuck,
    time_out,
    timeout_error,
    void_dispatches,
)
from wonder_ray.planning.merging import output_writes
from wonder_ray.planning.routing import RoutingError, Split, expression_failure, select_edges
from wonder_ray.planning.synchronization import settle_group
from wonder_ray.state import TERMINAL_RUN, ErrorRecord, RunStatus, Token, TokenStatus

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState


class Router:
    """Decides where tokens go.

    Example:
        `Router(graph).decide(state, TaskSucceeded(...), now_us=now)` returns the decisions that follow from a result;
        then `settle(state)` until it returns an empty list.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._incoming = IncomingJoins(graph) if graph.incoming_joins else None
        self._growth = Growth(graph)
        self._compute_nodes = tuple(node.id for node in graph.nodes.values() if node.kind == "compute")

    def decide(self, state: RunState, fact: facts.Fact, *, now_us: int) -> list[Decision]:
        """What one fact asks for. The fact has been recorded (its event applied to the state) already."""
        match fact:
            case facts.TaskSucceeded():
                return self._succeeded(state, state.tokens[fact.token_id])
            case facts.TaskErrored():
                return attempt_failed(self._graph, state.tokens[fact.token_id], fact.error, now_us)
            case facts.TaskLost():
                return self._lost(state, fact, now_us)
            case facts.StartRun():
                return start_tokens(self._graph)
            case facts.Reopened():
                return void_dispatches(state)
            case facts.CancelRun():
                return cancel(state, fact.reason)
            case facts.Alarm():
                return time_out(state, now_us) or self._retries_due(state, now_us)
            case _:
                msg = f"no planner for {type(fact).__name__}"
                raise TypeError(msg)

    def _succeeded(self, state: RunState, token: Token) -> list[Decision]:
        decisions: list[Decision] = []
        node = self._graph.nodes[token.node_id]
        if node.output:
            try:
                writes = output_writes(state, token, node.output)
            except ExpressionError as error:
                failure = expression_failure(error, node.id, "output mapping")
                return [UpdateTokenStatus(token_id=token.id, status=TokenStatus.FAILED, error=failure)]
            decisions.append(ApplyOutput(token_id=token.id, scope_id=token.scope_id, writes=writes))
        decisions.append(UpdateTokenStatus(token_id=token.id, status=TokenStatus.COMPLETED))
        return decisions

    def _lost(self, state: RunState, fact: facts.TaskLost, now_us: int) -> list[Decision]:
        if fact.batched:
            reason = f"its batch was lost: {fact.error.message}"
            return [RequeueToken(token_id=fact.token_id, solo=True, reason=reason, error=fact.error)]
        return attempt_failed(self._graph, state.tokens[fact.token_id], fact.error, now_us)

    def _retries_due(self, state: RunState, now_us: int) -> list[Decision]:
        return [
            RequeueToken(token_id=token.id, reason="its retry is due")
            for token in state.due_tokens(now_us)
            if token.status is TokenStatus.WAITING_FOR_RETRY
        ]

    def overdue(self, state: RunState, now_us: int) -> list[facts.TaskErrored]:
        """The attempts whose time is up (before the run's own is), as the failures that they are."""
        deadline_us = state.run.deadline_us
        return [
            facts.TaskErrored(token_id=token.id, attempt=token.attempt, epoch=token.epoch, error=self._timeout_of(token))
            for token in state.due_tokens(now_us if deadline_us is None else min(now_us, deadline_us - 1))
            if token.status is TokenStatus.DISPATCHED
        ]

    def _timeout_of(self, token: Token) -> ErrorRecord:
        return timeout_error(token.node_id, (self._graph.nodes[token.node_id].timeout_us or 0) / 1_000_000)

    def settle(self, state: RunState) -> list[Decision]:
        """What follows next from what has been executed: routing, compute nodes, groups, joins, the run's end; [] when stable."""
        if state.run.status in TERMINAL_RUN:
            return []
        index = state.index
        while index.to_route:
            decisions = self._route(state, state.tokens[index.to_route.popleft()])
            if decisions:
                return decisions
        for node_id in self._compute_nodes:
            queue = state.pending(node_id)
            if queue:
                return self._compute(state, state.tokens[queue[0]])
        while index.touched_groups:
            group_id = next(iter(index.touched_groups))
            del index.touched_groups[group_id]
            decisions = settle_group(state, self._graph, self._growth, state.groups[group_id])
            if decisions:
                return decisions
        decisions = self._incoming.settle(state) if self._incoming is not None else []
        return decisions or self._end(state)

    def _end(self, state: RunState) -> list[Decision]:
        if state.index.live == 0:
            return complete(state, self._graph)
        if state.index.waiting == state.index.live and state.run.status is RunStatus.RUNNING:
            return stuck(state)
        return []

    def _route(self, state: RunState, token: Token) -> list[Decision]:
        """The transitions that an ended token takes."""
        if token.status is not TokenStatus.COMPLETED:
            error = token.error or ErrorRecord("Unknown", "the token failed without an error", node_id=token.node_id)
            return decide_failure(state, self._graph, token, error)
        try:
            edges, exhausted = select_edges(state, self._graph, token, "completed")
            if edges:
                return Split(state, self._graph, token).fire(edges)
        except ExpressionError as error:
            return decide_failure(state, self._graph, token, expression_failure(error, token.node_id, "a transition's condition"))
        except RoutingError as error:
            return decide_failure(state, self._graph, token, error.error)
        if exhausted:
            return decide_failure(state, self._graph, token, self._loop_bound(token))
        return []

    def _loop_bound(self, token: Token) -> ErrorRecord:
        message = f"node {token.node_id!r}: every transition that matched has used up its max_iterations"
        return ErrorRecord("LoopBoundExceeded", message, retryable=False, kind="loop", node_id=token.node_id)

    def _compute(self, state: RunState, token: Token) -> list[Decision]:
        try:
            writes = output_writes(state, token, self._graph.nodes[token.node_id].output)
        except ExpressionError as error:
            failure = expression_failure(error, token.node_id, "compute")
            return [UpdateTokenStatus(token_id=token.id, status=TokenStatus.FAILED, error=failure)]
        decisions: list[Decision] = [SetContext(token_id=token.id, scope_id=token.scope_id, write=write) for write in writes]
        decisions.append(UpdateTokenStatus(token_id=token.id, status=TokenStatus.COMPLETED))
        return decisions


def is_open_attempt(token: Any, fact: facts.TaskFact) -> bool:
    """Whether a fact speaks of the attempt that is recorded as open; every other is late, and refused."""
    return (
        token is not None
        and token.status is TokenStatus.DISPATCHED
        and token.attempt == fact.attempt
        and token.epoch == fact.epoch
    )
