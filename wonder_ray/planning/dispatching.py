"""Which ready tokens are sent to executors now, and with what input: `TaskManager.prepare`."""

from __future__ import annotations

from heapq import heappop
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from wonder_ray.decisions import Decision, MarkForDispatch, UpdateTokenStatus
from wonder_ray.errors import ExpressionError
from wonder_ray.planning.admission import Admission, is_constrained
from wonder_ray.planning.scope import expression_failure, render_input
from wonder_ray.state import Token, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wonder_ray.definitions.graph import Graph, NodeSpec
    from wonder_ray.run_places import Queue
    from wonder_ray.run_state import RunState

INPUT_MAPPING: Final = "input mapping"
"""Where an error is said to be that keeps a token from being dispatched."""


class TaskManager:
    """The dispatching side of the decision layer.

    Example:
        `TaskManager(graph).prepare(state, room=lambda node: 100, now_us=now)` returns one `MARK_FOR_DISPATCH` per token
        that may be sent, by the order of nodes in the definition and of tokens in the run, which the stored state alone
        decides; a token whose input mapping fails is failed instead.
    """

    def __init__(self, graph: Graph, lanes: Mapping[str, str] = MappingProxyType({})) -> None:
        self._graph = graph
        self._order = {node: place for place, node in enumerate(graph.nodes)}
        self._lanes = lanes
        """Node -> lane, where nodes share tasks and so the room for them."""

    def prepare(self, state: RunState, *, room: Callable[[str], int], now_us: int) -> list[Decision]:
        """Decisions for the ready tokens of each node, as many in a lane as `room(node_id)` says for its nodes.

        `room` is asked for a node only where it has a token that could start. (Later nodes of a lane get what is left.)
        """
        decisions: list[Decision] = []
        left: dict[str, int] = {}
        admission = Admission(state)
        for node_id in sorted(state.index.ready, key=self._order.__getitem__):
            node = self._graph.nodes[node_id]
            lane = self.lane(node_id)
            if left.get(lane) == 0 or not node.is_task:
                continue
            queue = state.pending(node_id)
            if queue:
                most = left.get(lane)
                most = max(0, room(node_id)) if most is None else most
                tokens = islice(_admitted(state, node, queue, admission, decisions), most)
                found = [self._dispatch(state, node, token, now_us) for token in tokens]
                left[lane] = most - len(found)
                decisions += found
                if not queue:
                    state.pending(node_id)  # forget a queue whose tokens all have to wait
        return decisions

    def lane(self, node_id: str) -> str:
        """What shares the room of a node: by default the node itself."""
        return self._lanes.get(node_id, node_id)

    def _dispatch(self, state: RunState, node: NodeSpec, token: Token, now_us: int) -> Decision:
        due_us = None if node.timeout_us is None else now_us + node.timeout_us
        attempt = token.attempt + 1
        if token.attempt:
            return MarkForDispatch(token_id=token.id, attempt=attempt, first=False, due_us=due_us)
        try:
            rendered = render_input(state, node, token) if token.undo_of is None else state.undos[token.undo_of].input
        except ExpressionError as error:
            failure = expression_failure(error, node.id, INPUT_MAPPING)
            return UpdateTokenStatus(token_id=token.id, status=TokenStatus.FAILED, error=failure)
        return MarkForDispatch(token_id=token.id, attempt=attempt, input=rendered, due_us=due_us)


def _admitted(state: RunState, node: NodeSpec, queue: Queue, admission: Admission, decisions: list[Decision]) -> Iterator[Token]:
    """The first tokens of a queue that may start; who has to wait leaves the queue, too."""
    constrained = is_constrained(node)
    while queue:
        token = state.tokens[heappop(queue)[1]]
        if token.status is TokenStatus.PENDING:
            if constrained:
                admitted, before = admission.admit(node, token)
                decisions += before
                if not admitted:
                    continue
            yield token
