"""The log lines of the registry: one for whatever was done, refused or broken, one for a query that was slow."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from wonder_ray.errors import (
    ActionNotFoundError,
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    InputError,
    KeyConflictError,
    NotFoundError,
    RateLimitedError,
    RunNotFoundError,
    SecretError,
    ServiceUnavailableError,
    StaleEpochError,
    StorageError,
    WonderError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Log(Protocol):
    """What the service writes its lines to: a `LogClient` of the service `resources`."""

    def info(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Write a line of level info."""

    def warning(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Write a line of level warning."""

    def error(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Write a line of level error."""


class NullLog:
    """Writes nothing."""

    def info(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Ignore the line."""

    def warning(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Ignore the line."""

    def error(self, event_type: str, message: str = "", **fields: Any) -> None:
        """Ignore the line."""


_REFUSALS: Final[tuple[tuple[type[WonderError], str], ...]] = (
    (RunNotFoundError, "run_not_found"),
    (ActionNotFoundError, "action_not_found"),
    (KeyConflictError, "key_conflict"),
    (StaleEpochError, "stale_epoch_refused"),
    (AuthenticationError, "api_key_refused"),
    (ForbiddenError, "access_denied"),
    (RateLimitedError, "rate_limited"),
    (SecretError, "secret_refused"),
    (ConflictError, "conflict"),
)


class RequestLog:
    """Writes the lines of one service.

    Args:
        log: Where they go.
        slow_query_ms: From how many milliseconds on a query is logged as slow.
    """

    def __init__(self, log: Log, slow_query_ms: float) -> None:
        self._log = log
        self._slow_query_ms = slow_query_ms

    def done(self, event_type: str, message: str, **fields: Any) -> None:
        """Something was changed."""
        self._log.info(event_type, message, **fields)

    @contextmanager
    def request(self, request: str, **where: Any) -> Iterator[None]:
        """One line for whatever refuses or breaks the request in this block."""
        try:
            yield
        except InputError as error:
            # Not the message: it quotes the input, which may hold what no log should.
            message = f"the input of a run was refused, at {error.pointer or '(the whole)'}"
            self._log.warning("input_rejected", message, request=request, pointer=error.pointer, **where)
            raise
        except (StorageError, ServiceUnavailableError) as error:
            self._log.error("db_error", str(error), request=request, error=error, **where)
            raise
        except WonderError as error:
            more = {name: value for name in ("why", "key_id") if (value := getattr(error, name, None)) is not None}
            self._log.warning(_event_type(error), str(error), request=request, **where, **more)
            raise

    def observe(self, query: str, duration_ms: float) -> None:
        """A query or a write transaction took so long."""
        if duration_ms >= self._slow_query_ms:
            self._log.warning("db_query_slow", f"{query} took {duration_ms:.0f} ms", duration_ms=duration_ms, query=query)


def _event_type(error: WonderError) -> str:
    if isinstance(error, NotFoundError):
        return f"{error.what.lower().replace(' ', '_')}_not_found"
    return next((name for kind, name in _REFUSALS if isinstance(error, kind)), "validation_failed")
