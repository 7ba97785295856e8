"""Errors as `application/problem+json` (RFC 9457).

>>> from wonder_ray.errors import RunNotFoundError
>>> problem_of(RunNotFoundError("no run matches 'x'")).status
404
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.responses import Response

from wonder_ray.errors import AuthenticationError, InputError, KeyConflictError, RateLimitedError, WonderError
from wonder_ray.logs.context import current_log_context
from wonder_ray.problems import KINDS, PREFIX
from wonder_ray.values import encode_trusted

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE: Final = "application/problem+json"
INTERNAL: Final = "something went wrong here, which the service's log tells under this request's id"


class HttpError(WonderError):
    """A request that HTTP itself refuses: too large, too slow, no such path."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class Problem(NamedTuple):
    """What a client is told."""

    status: int
    kind: str
    detail: str
    more: Mapping[str, Any]
    headers: Mapping[str, str]


def problem_of(error: WonderError) -> Problem:
    """What a client is told of an error."""
    more: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, HttpError):
        return Problem(error.status, error.kind, str(error), more, headers)
    status, kind = next((status, kind) for cls, status, kind in KINDS if isinstance(error, cls))
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        more["retry_after_s"] = error.retry_after_s
    elif status == 503:  # noqa: PLR2004 - as in the table
        headers["Retry-After"] = "1"
    elif isinstance(error, KeyConflictError) and error.run_id:
        more["run_id"] = error.run_id
    elif isinstance(error, InputError):
        more["pointer"] = error.pointer
    return Problem(status, kind, INTERNAL if kind == "internal" else str(error), more, headers)


def response_of(problem: Problem) -> Response:
    """The response."""
    body = {
        "type": PREFIX + problem.kind,
        "title": problem.kind.replace("-", " "),
        "status": problem.status,
        "detail": printable(problem.detail),
        "request_id": current_log_context().request_id,
        **problem.more,
    }
    return Response(encode_trusted(body), problem.status, dict(problem.headers), MEDIA_TYPE)


def printable(text: str) -> str:
    r"""The text without what UTF-8 cannot hold.

    >>> printable("a\ud800")
    'a?'
    """
    return text.encode("utf-8", "replace").decode()
