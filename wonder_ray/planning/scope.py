"""What an expression sees: `input, state, output, item, index, result, run, token, error`, as one token sees them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from wonder_ray.errors import ExpressionError
from wonder_ray.state import INCOMING_PREFIX, ErrorRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.definitions.expressions import Expression
    from wonder_ray.definitions.graph import Graph, JoinSpec, NodeSpec
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Group, Token


def expression_scope(state: RunState, token: Token | None, result: Any = None) -> dict[str, Any]:
    """The names in scope for a token (None: for the run as a whole); nothing is copied.

    >>> from wonder_ray.fold import new_state
    >>> sorted(expression_scope(new_state("run_x"), None))
    ['input', 'output', 'run', 'state']
    """
    run = state.run
    view = state.view("" if token is None else token.scope_id)
    scope: dict[str, Any] = {
        "input": run.input,
        "state": view["state"],
        "output": view["output"],
        "run": {"id": run.run_id, "workflow": run.workflow_name, "version": run.workflow_version, "started_us": run.started_us},
    }
    if token is None:
        return scope
    scope["result"] = result
    scope["token"] = {
        "id": token.id,
        "node": token.node_id,
        "path": token.path_id,
        "attempt": token.attempt,
        "index": token.index,
    }
    if token.cause is not None:
        scope["error"] = token.cause.as_json()
    _add_items(scope, state, token)
    return scope


def _add_items(scope: dict[str, Any], state: RunState, token: Token) -> None:
    if token.fanout_id is None:
        return
    for fanout, index in state.frames(token.fanout_id, token.index):
        scope.setdefault("index", fanout.first + index)
        if fanout.items is not None:
            scope.setdefault(fanout.item_name, fanout.items[index])


def evaluate_count(expression: Expression | int, scope: dict[str, Any], what: str) -> int:
    """A number of things: an int of at least 0, else an `ExpressionError`."""
    if isinstance(expression, int):
        return expression
    value = expression.evaluate(scope)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{what} {expression.text!r} gave {value!r:.200}; it must be a whole number of at least 0"
        raise ExpressionError(msg)
    return value


def render_input(state: RunState, node: NodeSpec, token: Token) -> dict[str, Any]:
    """The keyword arguments of a token's action."""
    if not node.input:
        return {}
    scope = expression_scope(state, token)
    return {name: expression.evaluate(scope) for name, expression in node.input}


def expression_failure(error: ExpressionError, node_id: str, where: str) -> ErrorRecord:
    """The failure of a node whose expression could not be evaluated."""
    return ErrorRecord("ExpressionError", f"{where}: {error}", retryable=False, kind="expression", node_id=node_id)


def threshold(state: RunState, graph: Graph, group: Group, join: JoinSpec) -> int:
    """How many arrivals an `any` or `m_of_n` join fires at, as things stand.

    Raises `ExpressionError` when `m` cannot be evaluated.
    """
    if join.strategy == "any" or join.m is None:
        return 1
    if isinstance(join.m, int):
        return join.m
    scope = expression_scope(state, state.tokens[group.opener_id])
    scope["group"] = {
        "size": group.size,
        "arrived": group.arrived,
        "active": group.active,
        "failures": group.failures,
    }
    if "results" in join.m.names:
        arrivals = (state.tokens[token_id] for token_id in state.index.arrivals.get(group.id, ()))
        ordered = in_branch_order(state, graph, arrivals)
        scope["results"] = [state.tokens[token.parent_id or ""].result for token in ordered]
    return evaluate_count(join.m, scope, "m")


def branch_order(token: Token) -> tuple[tuple[int, int, str], ...]:
    """Sorts tokens by path, numbers by value: branch 10 comes after branch 2.

    >>> from wonder_ray.state import Token
    >>> paths = ["root.a.10", "root.a.2"]
    >>> [t.path_id for t in sorted((Token(id=p, ordinal=1, node_id="x", path_id=p) for p in paths), key=branch_order)]
    ['root.a.2', 'root.a.10']
    """
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in token.path_id.split("."))


def in_branch_order(state: RunState, graph: Graph, arrivals: Iterable[Token]) -> list[Token]:
    """Arrivals at the join of a group, in the order in which they merge: never that of their arrival (rule R7).

    Paths repeat: two groups of one split each lead on from the same place, and so does a join that fires twice. Of one path, the
    order of the transitions into the join decides, then that in which the tokens came to be that the branches go back to.
    """

    def place(token: Token) -> tuple[object, int]:
        return branch_order(token), graph.edge[token.transition_id or ""].order

    ordered = sorted(arrivals, key=place)
    if any(place(one) == place(two) for one, two in pairwise(ordered)):
        ordered.sort(key=lambda token: (place(token), _lineage(state, token)))
    return ordered


def _lineage(state: RunState, arrival: Token) -> list[int]:
    """The tokens that an arrival goes back to, the first one first: as far as to a join over `incoming`, which is a beginning."""
    found = []
    token = arrival
    while token.parent_id is not None:
        parent = state.tokens[token.parent_id]
        if token.transition_id is None and (parent.join_id or "").startswith(INCOMING_PREFIX):
            break
        token = parent
        found.append(token.ordinal)
    return found[::-1]
