"""What user code may know about the task it runs in, and what it may report.

>>> with task_context(TaskContext("run_1", "fetch", "t_1", 2, 1, "run_1/t_1")):
...     current().attempt
2
"""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import msgspec

from wonder_ray.errors import WonderError

if TYPE_CHECKING:
    from collections.abc import Iterator


class TaskContext(msgspec.Struct, frozen=True):
    """Where a call of an action stands."""

    run_id: str
    node_id: str
    token_id: str
    attempt: int
    """Counts from 1."""
    epoch: int
    idempotency_key: str
    """One and the same for all attempts of this call: give it to whatever must not happen twice."""


class Usage:
    """What an action has reported so far; None where it reported nothing. Threads may add to it at the same time."""

    def __init__(self) -> None:
        self.tokens: int | None = None
        self.cost_usd: float | None = None
        self._lock = threading.Lock()

    def add(self, tokens: int, cost_usd: float) -> None:
        """Count more; a `ValueError` when the sum is more than an event can hold."""
        with self._lock:
            counted, paid = (self.tokens or 0) + tokens, (self.cost_usd or 0.0) + cost_usd
            if counted > TOKENS_MAX or not math.isfinite(paid):
                raise ValueError(f"usage adds up to more than an event can hold: tokens={counted}, cost_usd={paid}")
            if tokens:
                self.tokens = counted
            if cost_usd:
                self.cost_usd = paid


TOKENS_MAX: Final = 2**63 - 1
_context: ContextVar[tuple[TaskContext, Usage] | None] = ContextVar("wonder_task_context", default=None)


def current() -> TaskContext:
    """The context of the action that is running; a `WonderError` outside one (in tests, use `task_context`).

    Threads that user code starts itself see it only with `contextvars.copy_context()`; `asyncio.to_thread` does that.

    Example:
        >>> def charge(amount: int) -> None:
        ...     payments.create(amount, idempotency_key=current().idempotency_key)  # doctest: +SKIP
    """
    found = _context.get()
    if found is None:
        raise WonderError("current() works inside an action only; in a test, call the action within `task_context(...)`")
    return found[0]


def report_usage(*, tokens: int = 0, cost_usd: float = 0.0) -> None:
    """Add LLM tokens and money (US dollars) to what this attempt has used, whether it then succeeds or fails.

    The sums stand in the columns `tokens` and `cost_usd` of its `task.completed` or `task.failed`. What an attempt had reported
    when it was killed (a timeout, a lost worker) is lost with it.

    Args:
        tokens: A whole number.
        cost_usd: US dollars.

    Raises:
        ValueError: A negative, fractional or non-finite amount, or more than an event can hold.
        WonderError: It is called outside an action. Threads that user code starts itself are outside, unless they run in
            `contextvars.copy_context()`, as those of `asyncio.to_thread` do.

    Example:
        >>> with task_context(TaskContext("run_1", "ask", "t_1", 1, 1, "run_1/t_1")) as usage:
        ...     report_usage(tokens=1250, cost_usd=0.25)
        ...     report_usage(tokens=50)
        >>> usage.tokens, usage.cost_usd
        (1300, 0.25)
    """
    if tokens < 0 or tokens != int(tokens) or not math.isfinite(cost_usd) or cost_usd < 0:
        raise ValueError(f"usage is counted upwards, tokens in whole numbers: tokens={tokens}, cost_usd={cost_usd}")
    found = _context.get()
    if found is None:
        raise WonderError("report_usage() works inside an action only; in a test, call the action within `task_context(...)`")
    found[1].add(int(tokens), float(cost_usd))


@contextmanager
def task_context(context: TaskContext, usage: Usage | None = None) -> Iterator[Usage]:
    """Make `current()` answer with this context, and collect what `report_usage` is told."""
    collected = Usage() if usage is None else usage
    token = _context.set((context, collected))
    try:
        yield collected
    finally:
        _context.reset(token)


@contextmanager
def step_context(step: str) -> Iterator[None]:
    """Within a task: the context of one of its steps, which differs in the idempotency key (`<key>/<step>`)."""
    found = _context.get()
    if found is None:
        yield
        return
    context, usage = found
    with task_context(msgspec.structs.replace(context, idempotency_key=f"{context.idempotency_key}/{step}"), usage):
        yield
