"""Which ready tokens are sent to executors now, and with what input: `TaskManager.prepare`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from wonder_ray.decisions import Decision, MarkForDispatch, UpdateTokenStatus
from wonder_ray.errors import ExpressionError
from wonder_ray.planning.routing import expression_failure
from wonder_ray.planning.scope import expression_scope
from wonder_ray.state import Token, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.definitions.graph import Graph, NodeSpec
    from wonder_ray.run_state import RunState


class TaskManager:
    """The dispatching side of the decision layer.

    Example:
        `TaskManager(graph).prepare(state, room=lambda node: 100, now_us=now)` returns one `MARK_FOR_DISPATCH` per token
        that may be sent, in the order in which they became ready; a token whose input mapping fails is failed instead.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def prepare(self, state: RunState, *, room: Callable[[str], int], now_us: int) -> list[Decision]:
        """Decisions for the ready tokens of each node, as many as `room(node_id)` says."""
        decisions: list[Decision] = []
        for node_id in list(state.index.ready):
            node = self._graph.nodes[node_id]
            if node.kind == "compute":
                continue
            queue = state.pending(node_id)
            most = room(node_id) if queue else 0
            if most > 0:
                ready = (state.tokens[token_id] for token_id in queue)
                pending = (token for token in ready if token.status is TokenStatus.PENDING)
                decisions.extend(self._dispatch(state, node, token, now_us) for token in islice(pending, most))
        return decisions

    def _dispatch(self, state: RunState, node: NodeSpec, token: Token, now_us: int) -> Decision:
        due_us = None if node.timeout_us is None else now_us + node.timeout_us
        attempt = token.attempt + 1
        if token.attempt:
            return MarkForDispatch(token_id=token.id, attempt=attempt, first=False, due_us=due_us)
        try:
            rendered = render_input(state, node, token)
        except ExpressionError as error:
            failure = expression_failure(error, node.id, "input mapping")
            return UpdateTokenStatus(token_id=token.id, status=TokenStatus.FAILED, error=failure)
        return MarkForDispatch(token_id=token.id, attempt=attempt, input=rendered, due_us=due_us)


def render_input(state: RunState, node: NodeSpec, token: Token) -> dict[str, Any]:
    """The keyword arguments of a token's action."""
    if not node.input:
        return {}
    scope = expression_scope(state, token)
    return {name: expression.evaluate(scope) for name, expression in node.input}
