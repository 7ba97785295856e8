"""How errors are named over HTTP (RFC 9457): the server makes problems of them by this table, and the client errors again.

>>> next(kind for error, _, kind in KINDS if issubclass(RunNotFoundError, error))
'run-not-found'
"""

from __future__ import annotations

from typing import Final

from wonder_ray.errors import (
    AuthenticationError,
    CommandRefusedError,
    ConflictError,
    DefinitionError,
    ExpressionError,
    ForbiddenError,
    HistoryConflictError,
    InputError,
    KeyConflictError,
    NotFoundError,
    PayloadError,
    QueryError,
    RateLimitedError,
    RunNotFoundError,
    ServiceUnavailableError,
    StaleEpochError,
    StorageError,
    WonderError,
)

PREFIX: Final = "urn:wonder-ray:problem:"
KINDS: Final[tuple[tuple[type[WonderError], int, str], ...]] = (
    (AuthenticationError, 401, "unauthenticated"),
    (ForbiddenError, 403, "forbidden"),
    (RateLimitedError, 429, "rate-limited"),
    (RunNotFoundError, 404, "run-not-found"),
    (NotFoundError, 404, "not-found"),
    (KeyConflictError, 409, "key-conflict"),
    (ConflictError, 409, "conflict"),
    (CommandRefusedError, 409, "command-refused"),
    (HistoryConflictError, 409, "history-incomplete"),
    (InputError, 422, "input-refused"),
    (DefinitionError, 422, "definition-refused"),
    (ExpressionError, 422, "expression-refused"),
    (PayloadError, 422, "payload-refused"),
    (QueryError, 422, "query-refused"),
    (ServiceUnavailableError, 503, "unavailable"),
    (StaleEpochError, 503, "unavailable"),
    (StorageError, 500, "internal"),
    (WonderError, 422, "refused"),
)
"""Error, status, kind: the first that fits. What stands below its own base class would never be found."""
