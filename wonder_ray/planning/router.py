"""The public face of the decision layer: facts and state in, decisions out; no clock, no I/O, no randomness.

`Router.decide` answers one fact. The coordinator executes the answer and then asks `Router.settle` for what follows from
it, until that is nothing. Both look at the state only (whose `now_us` is the turn's time), so the same history yields the same
decisions.
"""

from __future__ import annotations

from heapq import heappop
from typing import TYPE_CHECKING, Any

from wonder_ray.decisions import (
    ApplyOutput,
    CancelTokens,
    Decision,
    MarkRunRunning,
    MarkRunWaiting,
    RegisterUndo,
    RequeueToken,
    SetContext,
    UpdateTokenStatus,
    Write,
)
from wonder_ray.definitions.targets import parse_target
from wonder_ray.errors import ExpressionError
from wonder_ray.planning import facts
from wonder_ray.planning.admission import Admission, withdrawn_waits
from wonder_ray.planning.commands import decide_command
from wonder_ray.planning.ending import go_on_ending
from wonder_ray.planning.failing import decide_failure
from wonder_ray.planning.growth import Growth
from wonder_ray.planning.incoming import IncomingJoins
from wonder_ray.planning.lifecycle import (
    attempt_failed,
    complete,
    start_tokens,
    stuck,
    terminate,
    time_out,
    timeout_error,
    void_dispatches,
)
from wonder_ray.planning.merging import output_writes
from wonder_ray.planning.routing import RoutingError, Split, select_edges
from wonder_ray.planning.scope import expression_failure, expression_scope
from wonder_ray.planning.synchronization import join_timed_out, settle_group
from wonder_ray.planning.waiting import start_waiting, wait_is_due
from wonder_ray.state import GOING_RUN, ROOT_SCOPE, TERMINAL_RUN, ErrorRecord, RunStatus, Token, TokenStatus

if TYPE_CHECKING:
    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState


class Router:
    """Decides where tokens go.

    Example:
        `Router(graph).decide(state, TaskSucceeded(...), now_us=now)` returns the decisions that follow from a result; then
        `settle(state)` until it returns an empty list.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._incoming = IncomingJoins(graph) if graph.incoming_joins else None
        self._growth = Growth(graph)

    def forget(self) -> None:
        """Drop what was kept of a run beside its state: the next call may be about another one."""
        if self._incoming is not None:
            self._incoming.forget()

    def decide(self, state: RunState, fact: facts.Fact, *, now_us: int) -> list[Decision]:
        """What one fact asks for. The fact has been recorded (its event applied to the state) already."""
        state.now_us = now_us
        match fact:
            case facts.TaskSucceeded():
                return self._succeeded(state, state.tokens[fact.token_id])
            case facts.ChildStarted() | facts.ChildEnded():
                return []  # what has come to its token is looked at by `settle`
            case facts.TaskErrored():
                return attempt_failed(self._graph, state.tokens[fact.token_id], fact.error, state.now_us)
            case facts.TaskLost():
                return self._lost(state, fact)
            case facts.StartRun():
                return start_tokens(self._graph) if fact.fork is None else _set_anew(fact.fork)
            case facts.Reopened():
                return void_dispatches(state)
            case facts.CommandFact():
                return decide_command(state, self._graph, fact)
            case facts.Alarm():
                return time_out(state, state.now_us)
            case _:
                msg = f"no planner for {type(fact).__name__}"
                raise TypeError(msg)

    def _lost(self, state: RunState, fact: facts.TaskLost) -> list[Decision]:
        if fact.batched:
            reason = f"its batch was lost: {fact.error.message}"
            return [RequeueToken(token_id=fact.token_id, solo=True, reason=reason, error=fact.error)]
        return attempt_failed(self._graph, state.tokens[fact.token_id], fact.error, state.now_us)

    # --- time ----------------------------------------------------------------------------------------------------

    def overdue(self, state: RunState) -> list[facts.TaskErrored]:
        """The attempts whose time is up (before the run's own is), as the failures that they are."""
        deadline_us = state.run.deadline_us if state.run.status in GOING_RUN else None
        return [
            facts.TaskErrored(token_id=token.id, attempt=token.attempt, epoch=token.epoch, error=self._timeout_of(token))
            for token in state.due_tokens(state.now_us if deadline_us is None else min(state.now_us, deadline_us - 1))
            if token.status is TokenStatus.DISPATCHED
        ]

    def _timeout_of(self, token: Token) -> ErrorRecord:
        return timeout_error(token.node_id, (self._graph.nodes[token.node_id].timeout_us or 0) / 1_000_000)

    def due(self, state: RunState) -> list[str]:
        """What else is due: tokens that wait (for a retry, too) and groups, earliest first; each goes to `expire`."""
        return [] if state.run.status is RunStatus.PAUSED else state.due_items(state.now_us)

    def expire(self, state: RunState, item: str) -> list[Decision]:
        """What the passing of time does to one of them, if it still is due."""
        if state.run.status in TERMINAL_RUN or not state.is_due(item):
            return []
        token = state.tokens.get(item)
        if token is None:
            return join_timed_out(state, self._graph, state.groups[item])
        if token.status is TokenStatus.WAITING_FOR_RETRY:
            return [RequeueToken(token_id=token.id, reason="its retry is due")]
        if token.status is TokenStatus.WAITING_FOR_SIBLINGS and self._incoming is not None:
            return self._incoming.timed_out(state, token.join_id or "")
        return wait_is_due(state, self._graph, token)

    # --- what follows --------------------------------------------------------------------------------------------

    def settle(self, state: RunState) -> list[Decision]:
        """What follows next from what has been executed; [] when stable.

        Results, routing, guards, nodes without tasks, groups, joins, the run's end: in this order.
        """
        index = state.index
        if state.run.status not in GOING_RUN:
            return [] if state.run.status in TERMINAL_RUN else go_on_ending(state)
        if index.has_result or index.has_failed:
            return self._come_to(state)
        while index.to_route:
            decisions = self._route(state, state.tokens[index.to_route.popleft()])
            if decisions:
                return decisions
        if index.context_changed and self._graph.guarded_nodes:
            index.context_changed = False
            index.unpark(list(index.guarded))
            decisions = withdrawn_waits(state, self._graph)
            if decisions:
                return decisions
        while index.fresh and state.run.status is not RunStatus.PAUSED:
            decisions = self._start(state, state.tokens[heappop(index.fresh)[1]])
            if decisions:
                return decisions
        while index.touched_groups:
            decisions = settle_group(state, self._graph, self._growth, state.groups[index.touched_groups.pop()])
            if decisions:
                return decisions
        decisions = self._incoming.settle(state) if self._incoming is not None else []
        return decisions or self._end(state)

    def _come_to(self, state: RunState) -> list[Decision]:
        """A token has got what it waited for, or its child has failed."""
        index = state.index
        if index.has_result:
            return self._succeeded(state, state.tokens[index.has_result.popleft()])
        token = state.tokens[index.has_failed.popleft()]
        return attempt_failed(self._graph, token, _error_of(token), state.now_us)

    def _end(self, state: RunState) -> list[Decision]:
        index = state.index
        if index.live == 0:
            return complete(state, self._graph)
        if state.run.status is RunStatus.PAUSED or index.waits or index.open_groups or state.children:
            return []
        return stuck(state, self._graph) if index.idle() else []

    def rest(self, state: RunState) -> list[Decision]:
        """Whether the run has begun, or ceased, to wait for the world: asked once, at the end of a turn."""
        status = state.run.status
        if status not in {RunStatus.RUNNING, RunStatus.WAITING}:
            return []
        if state.index.idle():
            return [MarkRunWaiting()] if status is RunStatus.RUNNING else []
        return [MarkRunRunning()] if status is RunStatus.WAITING else []

    # --- tokens --------------------------------------------------------------------------------------------------

    def _start(self, state: RunState, token: Token) -> list[Decision]:
        """A pending token at a node without a task begins, if it may."""
        if token.status is not TokenStatus.PENDING or token.id in state.index.parked:
            return []
        node = self._graph.nodes[token.node_id]
        admitted, before = Admission(state).admit(node, token)
        if not admitted:
            return before
        if node.kind == "compute":
            return [*before, *self._compute(state, token)]
        if node.terminate is not None:
            return [*before, *self._succeeded(state, token)]
        return [*before, *start_waiting(state, self._graph, node, token)]

    def _compute(self, state: RunState, token: Token) -> list[Decision]:
        try:
            writes = output_writes(state, token, self._graph.nodes[token.node_id].output)
        except ExpressionError as error:
            return [_failed(token, expression_failure(error, token.node_id, "compute"))]
        decisions: list[Decision] = [SetContext(token_id=token.id, scope_id=token.scope_id, write=write) for write in writes]
        decisions.append(UpdateTokenStatus(token_id=token.id, status=TokenStatus.COMPLETED))
        return decisions

    def _succeeded(self, state: RunState, token: Token) -> list[Decision]:
        """A token's work is done, and its result known."""
        decisions: list[Decision] = []
        node = self._graph.nodes[token.node_id]
        try:
            if node.output:
                writes = output_writes(state, token, node.output)
                decisions.append(ApplyOutput(token_id=token.id, scope_id=token.scope_id, writes=writes))
            if node.undo_id is not None:
                decisions.append(self._undo(state, token, node.undo_id))
        except ExpressionError as error:
            where = "undo input" if decisions or not node.output else "output mapping"
            return [_failed(token, expression_failure(error, node.id, where))]
        decisions.append(UpdateTokenStatus(token_id=token.id, status=TokenStatus.COMPLETED))
        return decisions

    def _undo(self, state: RunState, token: Token, undo_id: str) -> Decision:
        scope = expression_scope(state, token, token.result)
        given = {name: expression.evaluate(scope) for name, expression in self._graph.nodes[undo_id].input}
        return RegisterUndo(token_id=token.id, node_id=undo_id, input=given)

    def _route(self, state: RunState, token: Token) -> list[Decision]:
        """What an ended token leads to: it withdraws its rivals, unless it was withdrawn itself, and takes its transitions."""
        races = token.race_id is not None and token.status is not TokenStatus.CANCELLED
        rivals = tuple(state.index.races.get(token.race_id or "", ())) if races else ()
        lost: list[Decision] = [CancelTokens(token_ids=rivals, reason=f"node {token.node_id!r} was first")] if rivals else []
        return [*lost, *self._onward(state, token)]

    def _onward(self, state: RunState, token: Token) -> list[Decision]:
        graph = self._graph
        if token.status is TokenStatus.CANCELLED:
            return self._handle_cancel(state, token)
        if token.status is not TokenStatus.COMPLETED:
            return decide_failure(state, graph, token, _error_of(token))
        if graph.nodes[token.node_id].terminate is not None:
            return terminate(state, graph, token)
        try:
            edges, exhausted = select_edges(state, graph, token, "completed")
            if edges:
                return Split(state, graph, token).fire(edges)
        except ExpressionError as error:
            return decide_failure(state, graph, token, expression_failure(error, token.node_id, "a transition's condition"))
        except RoutingError as error:
            return decide_failure(state, graph, token, error.error)
        if exhausted:
            return decide_failure(state, graph, token, self._loop_bound(token))
        return []

    def _handle_cancel(self, state: RunState, token: Token) -> list[Decision]:
        """A token that another branch has cancelled takes its `on: cancelled` transitions."""
        try:
            edges, _ = select_edges(state, self._graph, token, "cancelled")
            return Split(state, self._graph, token).fire(edges) if edges else []
        except ExpressionError as error:
            failure = expression_failure(error, token.node_id, "a transition's condition")
            return decide_failure(state, self._graph, token, failure)
        except RoutingError as error:
            return decide_failure(state, self._graph, token, error.error)

    def _loop_bound(self, token: Token) -> ErrorRecord:
        message = f"node {token.node_id!r}: every transition that matched has used up its max_iterations"
        return ErrorRecord("LoopBoundExceeded", message, retryable=False, kind="loop", node_id=token.node_id)


def _error_of(token: Token) -> ErrorRecord:
    assert token.error is not None, f"token {token.id} failed without an error"
    return token.error


def _failed(token: Token, error: ErrorRecord) -> Decision:
    return UpdateTokenStatus(token_id=token.id, status=TokenStatus.FAILED, error=error)


def _set_anew(fork: facts.Fork) -> list[Decision]:
    """What a forked run changes in the state that it takes over."""
    writes = [Write(parse_target(target).text, value) for target, value in fork.changes.items()]
    return [SetContext(token_id=None, scope_id=ROOT_SCOPE, write=write) for write in writes]


def is_open_attempt(token: Any, fact: facts.TaskFact) -> bool:
    """Whether a fact speaks of the attempt that is recorded as open; every other is late, and refused."""
    return (
        token is not None
        and token.status is TokenStatus.DISPATCHED
        and token.attempt == fact.attempt
        and token.epoch == fact.epoch
    )
