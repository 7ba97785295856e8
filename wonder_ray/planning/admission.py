"""Whether a ready token may start: its guard holds, and the mutexes and the concurrency key of its node are free for it.

Locks are granted first come, first served: a token that cannot have all it needs at once queues up for all of it. A mutex is
held by a lineage: successors at nodes that name it, too, take it over (`inherited`). A key is held by one token only.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from wonder_ray.decisions import AcquireLocks, Decision, RequestLocks, RequeueToken, UpdateTokenStatus
from wonder_ray.errors import ExpressionError
from wonder_ray.planning.scope import expression_failure, expression_scope
from wonder_ray.state import TokenStatus

if TYPE_CHECKING:
    from collections.abc import Collection

    from wonder_ray.definitions.graph import Graph, NodeSpec
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Token


def mutex_names(node: NodeSpec) -> tuple[str, ...]:
    """The locks of a node's mutexes."""
    return tuple(f"mutex:{name}" for name in node.mutex)


def inherited(graph: Graph, holds: Collection[str], target: str) -> tuple[str, ...]:
    """What a token at `target` takes over of the locks that the tokens before it held."""
    return tuple(name for name in mutex_names(graph.nodes[target]) if name in holds) if holds else ()


def is_constrained(node: NodeSpec) -> bool:
    """Whether tokens at a node may have to wait before they start."""
    return node.guard is not None or node.key is not None or bool(node.mutex)


class Admission:
    """Admits tokens one after the other, and counts what it has granted in decisions that are yet to be executed.

    Example:
        `Admission(state).admit(node, token)` tells whether the token starts now, and what is to be executed before (or instead).
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._granted: Counter[str] = Counter()
        self._queued: set[str] = set()

    def admit(self, node: NodeSpec, token: Token) -> tuple[bool, list[Decision]]:
        """Whether a token starts now, and the decisions that come before; those of one that has to wait, or fails, otherwise.

        A token that has started before, and is made again, holds its locks still; its guard spoke of that start.
        """
        if token.attempt or not is_constrained(node):
            return True, []
        try:
            if node.guard is not None and not guard_holds(self._state, node, token):
                self._state.index.park(token.id, guarded=True)
                return False, []
            names = token.wanted or tuple(name for name in self._names(node, token) if name not in token.holds)
        except ExpressionError as error:
            failure = expression_failure(error, node.id, "guard or concurrency_key")
            return False, [UpdateTokenStatus(token_id=token.id, status=TokenStatus.FAILED, error=failure)]
        if not names:
            return True, []
        if all(self._may_take(name, node, token) for name in names):
            self._granted.update(names)
            return True, [AcquireLocks(token_id=token.id, names=names)]
        self._state.index.park(token.id)
        if token.wanted:
            return False, []
        self._queued.update(names)
        return False, [RequestLocks(token_id=token.id, names=names)]

    def _names(self, node: NodeSpec, token: Token) -> tuple[str, ...]:
        names = mutex_names(node)
        if node.key is None:
            return names
        value = node.key.evaluate(expression_scope(self._state, token))
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            msg = f"concurrency_key {node.key.text!r} gave {value!r:.200}; it must be a text or a whole number"
            raise ExpressionError(msg)
        return (*names, f"key:{msgspec.json.encode(value).decode()}")

    def _may_take(self, name: str, node: NodeSpec, token: Token) -> bool:
        locks = self._state.index.locks
        most = node.key_limit if name.startswith("key:") else 1
        if not token.wanted and name in self._queued:
            return False  # somebody queues up for it in this turn: before this one, and behind all who have waited
        return locks.free(name, most - self._granted[name]) and locks.is_next(token.id, name)


def guard_holds(state: RunState, node: NodeSpec, token: Token) -> bool:
    """Whether a node's guard is true for a token; raises `ExpressionError` where that cannot be said."""
    return node.guard is None or node.guard.evaluate_bool(expression_scope(state, token))


def withdrawn_waits(state: RunState, graph: Graph) -> list[Decision]:
    """Gates, signals and timers whose guard no longer holds: their tokens are no longer offered."""
    decisions: list[Decision] = []
    for node_id in graph.guarded_nodes:
        for token_id in state.index.waits.get(node_id, ()):
            try:
                holds = guard_holds(state, graph.nodes[node_id], state.tokens[token_id])
            except ExpressionError as error:
                failure = expression_failure(error, node_id, "guard")
                decisions.append(UpdateTokenStatus(token_id=token_id, status=TokenStatus.FAILED, error=failure))
                continue
            if not holds:
                decisions.append(RequeueToken(token_id=token_id, reason="its guard no longer holds"))
    return decisions
