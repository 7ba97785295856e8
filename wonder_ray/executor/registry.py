"""`@action`: how a Python function becomes an action of workflows.

>>> @action(timeout_s=30)
... def double(n: int) -> int:
...     return 2 * n
>>> double(4)
8
>>> double.name
'double'
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, overload

import msgspec

from wonder_ray.bundles.modules import target_of
from wonder_ray.errors import DefinitionError
from wonder_ray.executor.protocol import ActionRef
from wonder_ray.ids import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wonder_ray.definitions.models import Retry  # noqa: TC004 - importing pydantic takes longer than all of an executor

P = ParamSpec("P")
R = TypeVar("R")


class ActionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an action asks of every node that runs it; a node's own settings win. None means: not said."""

    retry: Retry | None = None
    timeout_s: float | None = None
    """Seconds that one attempt may take."""
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | None = None
    """Bytes."""
    resources: dict[str, float] | None = None
    label_selector: dict[str, str] | None = None
    runtime_env: dict[str, Any] | None = None
    batch: bool = True
    """Whether several tokens may be handed to one Ray task; False for actions that are slow or may kill their process."""


class Action(Generic[P, R]):
    """A function that workflows can run; called directly, it is the plain function.

    Attributes:
        fn: The function itself.
        name: Its name in messages, and its key when it travels by value.
        options: What it asks of every node that runs it.
    """

    def __init__(self, fn: Callable[P, R], *, name: str, options: ActionOptions) -> None:
        self.fn = fn
        self.name = name
        self.options = options
        functools.update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<action {self.ref}>"

    @property
    def ref(self) -> ActionRef:
        """How an executor finds the function: by import, or (lambda, local, notebook or REPL function) by value."""
        target = target_of(self.fn)
        return ActionRef(self.name, target, pickled=target is None)

    @property
    def signature(self) -> inspect.Signature:
        """The parameters and the annotations of the function."""
        return inspect.signature(self.fn)

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function; such calls of one task run concurrently."""
        return inspect.iscoroutinefunction(inspect.unwrap(self.fn))


class Decorator(Protocol):
    """What `action(...)` with options returns."""

    def __call__(self, fn: Callable[P, R], /) -> Action[P, R]:
        """Make the function an action with these options."""
        ...


@overload
def action(fn: Callable[P, R], /) -> Action[P, R]: ...


@overload
def action(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout_s: float | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: int | None = None,
    resources: Mapping[str, float] | None = None,
    label_selector: Mapping[str, str] | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    batch: bool = True,
) -> Decorator: ...


def action(fn: Callable[P, R] | None = None, /, *, name: str | None = None, **options: Any) -> Any:
    """Make a sync or async function an action. Use it bare, or with options that every node running it inherits.

    Args:
        fn: The function, when the decorator is used bare.
        name: A name other than the function's own (letters, digits, `_`, `.`, `-`).
        **options: The fields of `ActionOptions`: `retry`, `timeout_s` (seconds per attempt), `num_cpus`, `num_gpus`,
            `memory` (bytes), `resources`, `label_selector`, `runtime_env` (Ray's) and `batch`.

    Raises:
        DefinitionError: The decorated thing is no plain function, or its name cannot be used.

    Example:
        >>> @action(num_cpus=2, batch=False)
        ... async def train(rows: int) -> dict[str, float]:
        ...     return {"loss": 1 / rows}
        >>> train.options.num_cpus
        2
    """
    asked: Any = {key: dict(value) if isinstance(value, dict) else value for key, value in options.items()}
    made = ActionOptions(**asked)
    if fn is not None:
        return _make(fn, name, made)
    return lambda function: _make(function, name, made)


def as_action(fn: Callable[..., Any]) -> Action[..., Any]:
    """The action itself, or a plain function made one: what a builder calls on whatever it is given as an action.

    >>> import math
    >>> as_action(math.sqrt).ref.target
    'math:sqrt'
    """
    return fn if isinstance(fn, Action) else _make(fn, None, ActionOptions())


def _make(fn: Callable[P, R], name: str | None, options: ActionOptions) -> Action[P, R]:
    what = f"{getattr(fn, '__qualname__', None) or repr(fn)[:80]}"
    if isinstance(fn, Action):
        raise DefinitionError(f"{what} is an action already: decorate it once")
    if inspect.isclass(fn):
        raise DefinitionError(f"{what} is a class; an action is a function: wrap it in one that makes and uses the object")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise DefinitionError(
            f"{what} is a generator; an action returns its result: return a list, or use foreach to spread work"
        )
    if not inspect.isroutine(fn):
        kind = "a callable object" if callable(fn) else "not callable"
        raise DefinitionError(f"{what} ({type(fn).__name__}) is {kind}; an action is a function: wrap it in a `def`")
    if isinstance(fn, (staticmethod, classmethod)) or inspect.ismethod(fn):
        raise DefinitionError(f"{what} is a method; an action is a plain function: write it at the top of a module")
    if name is None and fn.__name__ == "<lambda>":
        raise DefinitionError("a lambda has no name: use action(name=...)(lambda ...), or a `def`")
    return Action(fn, name=check_name(name or fn.__name__, "action"), options=options)
