"""`steps` nodes: a linear list of actions in one task, with an `input`, a `state` and an `output` of their own in memory.

Each step may have a condition (`when`), takes its keyword arguments from its `input` mapping (none: no arguments) and writes its
`result` through its `output` mapping. When it fails: `abort` fails the node with that error, `retry` calls it again at
once, up to `max_attempts`, then aborts, and `continue` goes on with the next step as if it had written nothing. The node's
result is `output`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from wonder_ray.definitions.expressions import Expression, compile_expression, render_mapping
from wonder_ray.definitions.targets import Target, parse_target, set_in
from wonder_ray.executor.context import step_context
from wonder_ray.executor.results import to_json
from wonder_ray.executor.work import ActionLoader, Program, invoke, is_async, load_function
from wonder_ray.values import own

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.executor.protocol import StepSpec, TaskSpec


class _Step(NamedTuple):
    spec: StepSpec
    fn: Callable[..., Any]
    when: Expression | None
    input: dict[str, Expression]
    output: tuple[tuple[Target, Expression], ...]


class StepsWork:
    """A `steps` node with its functions loaded and its expressions compiled.

    Raises:
        CodeBundleError: A function cannot be loaded.
        ExpressionError: An expression does not compile.
    """

    def __init__(self, spec: TaskSpec, loader: ActionLoader, *, on_error: Callable[[StepSpec, int, BaseException], None]) -> None:
        self._steps = [_prepared(step, load_function(loader, spec, step.action)) for step in spec.steps or ()]
        self._on_error = on_error
        self.is_async = all(is_async(step.fn) for step in self._steps)

    def program(self, value: Any) -> Program:
        """All steps in order, for one input."""
        scope: dict[str, Any] = {"input": value, "state": {}, "output": {}}
        for step in self._steps:
            if step.when is None or step.when.evaluate_bool(scope):
                yield from self._step(step, scope)
        return scope["output"]

    def _step(self, step: _Step, scope: dict[str, Any]) -> Program:
        attempts = step.spec.max_attempts if step.spec.on_failure == "retry" else 1
        for attempt in range(1, attempts + 1):
            try:
                yield from _once(step, scope)
                return
            except GeneratorExit:
                raise
            except BaseException as error:  # what stops the task never gets here (see work.drive)
                is_final = attempt == attempts or not getattr(error, "retryable", True)
                if is_final and step.spec.on_failure != "continue":
                    raise
                self._on_error(step.spec, attempt, error)


def _once(step: _Step, scope: dict[str, Any]) -> Program:
    arguments = own(render_mapping(step.input, scope))
    result = yield from invoke(step.spec.action, step.fn, arguments)
    seen = scope | {"result": to_json(result)}
    values = [(target, own(expression.evaluate(seen))) for target, expression in step.output]
    for target, value in values:  # all or none: an expression that fails leaves the state as it was
        set_in(scope[target.root], target.path, value)


def _within(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, called in the context of a step: with an idempotency key of its own."""
    if is_async(fn):

        @functools.wraps(fn)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            with step_context(name):
                return await fn(*args, **kwargs)

        return call_async

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        with step_context(name):
            return fn(*args, **kwargs)

    return call


def _prepared(spec: StepSpec, fn: Callable[..., Any]) -> _Step:
    return _Step(
        spec,
        _within(fn, spec.name),
        None if spec.when is None else compile_expression(spec.when),
        {name: compile_expression(text) for name, text in spec.input.items()},
        tuple((parse_target(target), compile_expression(text)) for target, text in spec.output.items()),
    )
