"""What an expression sees: `input, state, output, item, index, result, run, token, error`, as one token sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wonder_ray.errors import ExpressionError

if TYPE_CHECKING:
    from wonder_ray.definitions.expressions import Expression
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Token


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
        scope.setdefault("index", index)
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
