"""Questions about a run: the value of an expression over its state, which changes nothing.

>>> from wonder_ray.fold import new_state
>>> evaluate_query(new_state("run_x"), "size(state)")
0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.planning.scope import expression_scope

if TYPE_CHECKING:
    from wonder_ray.run_state import RunState


def evaluate_query(state: RunState, text: str) -> Any:
    """The value of a CEL expression over `input`, `state`, `output` and `run`; raises `ExpressionError`."""
    return compile_expression(text).evaluate(expression_scope(state, None))
