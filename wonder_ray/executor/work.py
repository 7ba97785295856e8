"""What a task does with one input, as a program: it yields the calls of user code to make, and is sent their results.

A program is a generator, so that one text serves both ways of running it: calls one after the other, and (when all user code
of the task is async) many programs at once in one event loop.

>>> def program():
...     doubled = yield Invocation(lambda n: 2 * n, (4,), {})
...     return {"doubled": doubled}
>>> drive(program(), is_stop=lambda error: False)
{'doubled': 8}
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from wonder_ray.errors import CodeBundleError, InputError
from wonder_ray.executor.registry import Action
from wonder_ray.executor.secrets import with_secrets

if TYPE_CHECKING:
    from wonder_ray.executor.protocol import ActionRef, TaskSpec

IsStop = Callable[[BaseException], bool]
"""Whether an exception stops the task itself (it was cancelled), rather than being a failure of user code."""


class Invocation(NamedTuple):
    """A call of user code."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


Program = Generator[Invocation, Any, Any]


class Work(Protocol):
    """What every call of a task does."""

    @property
    def is_async(self) -> bool:
        """Whether programs may run concurrently in one event loop: all their user code is async."""
        ...

    def program(self, value: Any) -> Program:
        """The program for one decoded input."""
        ...


class ActionLoader(Protocol):
    """Where functions come from; `wonder_ray.bundles.loader.BundleLoader` is one."""

    def resolve(self, bundle: str | None, *, target: str | None = None, name: str = "") -> Any:
        """The function (or `Action`); a `CodeBundleError` when it cannot be had."""
        ...


class ActionWork:
    """An `action` node: one call."""

    def __init__(self, ref: ActionRef, fn: Callable[..., Any], *, single: bool) -> None:
        self._ref = ref
        self._fn = fn
        self._single = single
        self.is_async = is_async(fn)

    def program(self, value: Any) -> Program:
        """Call the action with the input: as its only argument, or as keyword arguments."""
        return (yield from invoke(self._ref, self._fn, value, single=self._single))


def invoke(ref: ActionRef, fn: Callable[..., Any], value: Any, *, single: bool = False) -> Program:
    """The call of one action; an `InputError` when its parameters do not fit the input."""
    if not single and not isinstance(value, dict):
        raise InputError(f"{ref} takes keyword arguments; the input is no object but {type(value).__name__} {str(value)[:80]}")
    args, kwargs = ((value,), {}) if single else ((), with_secrets(ref, fn, value))
    try:
        return (yield Invocation(fn, args, kwargs))
    except TypeError as error:
        problem = _misfit(fn, args, kwargs)
        if problem is None:
            raise
        raise InputError(f"{ref} cannot be called with this input: {problem}; see the input mapping") from error


def load_function(loader: ActionLoader, spec: TaskSpec, ref: ActionRef) -> Callable[..., Any]:
    """The plain function of an action; a `CodeBundleError` when it cannot be had."""
    found = loader.resolve(spec.bundle, target=None if ref.pickled else ref.target, name=ref.name)
    if isinstance(found, Action):
        return found.fn
    if not callable(found):
        raise CodeBundleError(f"node {spec.node_id!r}: action {ref} is no function but {type(found).__name__}")
    return found  # type: ignore[no-any-return] # user code is dynamic


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling the function gives a coroutine, also below decorators that keep `__wrapped__`."""
    return inspect.iscoroutinefunction(inspect.unwrap(fn))


def drive(program: Program, *, is_stop: IsStop) -> Any:
    """Run a program to its end, one call after the other; an async one gets an event loop of its own."""
    try:
        invocation = next(program)
        while True:
            try:
                result = invocation.fn(*invocation.args, **invocation.kwargs)
                if inspect.isawaitable(result):
                    result = asyncio.run(_awaited(result))
            except BaseException as error:
                if is_stop(error):
                    raise
                invocation = program.throw(error)
            else:
                invocation = program.send(result)
    except StopIteration as stop:
        return stop.value


async def drive_async(program: Program, *, is_stop: IsStop) -> Any:
    """`drive` inside a running event loop."""
    try:
        invocation = next(program)
        while True:
            try:
                result = invocation.fn(*invocation.args, **invocation.kwargs)
                if inspect.isawaitable(result):
                    result = await result
            except BaseException as error:
                if is_stop(error):
                    raise
                invocation = program.throw(error)
            else:
                invocation = program.send(result)
    except StopIteration as stop:
        return stop.value


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _misfit(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Why the parameters do not fit; None when they do, or cannot be known."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as problem:
        return str(problem)
    return None
