"""Which run, node, token and attempt the code that runs now belongs to: what every line of log it writes is marked with.

>>> with log_context(run_id="run_1", node_id="fetch"), log_context(attempt=2):
...     current = current_log_context()
>>> current.run_id, current.node_id, current.attempt
('run_1', 'fetch', 2)
>>> current_log_context().run_id is None
True
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator


class LogContext(msgspec.Struct, frozen=True):
    """What lines are marked with; `run_id` becomes their `trace_id`."""

    run_id: str | None = None
    node_id: str | None = None
    token_id: str | None = None
    attempt: int | None = None
    request_id: str | None = None
    workspace_id: str | None = None
    project_id: str | None = None


_context: ContextVar[LogContext] = ContextVar("wonder_log_context", default=LogContext())  # noqa: B039 - frozen
_handling: ContextVar[bool] = ContextVar("wonder_log_handling", default=False)


def current_log_context() -> LogContext:
    """The context of the calling thread or asyncio task."""
    return _context.get()


@contextmanager
def log_context(
    *,
    run_id: str | None = None,
    node_id: str | None = None,
    token_id: str | None = None,
    attempt: int | None = None,
    request_id: str | None = None,
    workspace_id: str | None = None,
    project_id: str | None = None,
) -> Iterator[LogContext]:
    """Mark every line written inside the block; what is left out is taken over from the enclosing block.

    It holds for the calling thread or asyncio task and for tasks started inside (and `asyncio.to_thread`); threads that
    are started by hand begin without one.
    """
    outer = _context.get()
    inner = LogContext(
        run_id=run_id or outer.run_id,
        node_id=node_id or outer.node_id,
        token_id=token_id or outer.token_id,
        attempt=outer.attempt if attempt is None else attempt,
        request_id=request_id or outer.request_id,
        workspace_id=workspace_id or outer.workspace_id,
        project_id=project_id or outer.project_id,
    )
    token = _context.set(inner)
    try:
        yield inner
    finally:
        with suppress(ValueError):  # left in another context than it was entered in: that one ends by itself
            _context.reset(token)


def is_handling() -> bool:
    """Whether the caller runs inside the log machinery: a line written here would breed further lines, or deadlock."""
    return _handling.get()


@contextmanager
def handling() -> Iterator[None]:
    """Mark the block as log machinery (see `is_handling`)."""
    token = _handling.set(True)
    try:
        yield
    finally:
        _handling.reset(token)
