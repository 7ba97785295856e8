"""`application/problem+json`, made the error again that it was at the server.

>>> error_of(404, {"type": "urn:wonder-ray:problem:run-not-found", "detail": "no run 'x'"})
RunNotFoundError("no run 'x'")
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from wonder_ray.errors import (
    InputError,
    KeyConflictError,
    NotFoundError,
    RateLimitedError,
    ServiceUnavailableError,
    WonderError,
)
from wonder_ray.problems import KINDS, PREFIX

_NAMED: Final = {kind: error for error, _, kind in reversed(KINDS) if kind != "internal"}
_ERRORS: Final = MappingProxyType(_NAMED | {"timeout": ServiceUnavailableError})


def error_of(status: int, body: Any) -> WonderError:
    """The error; of an answer that is not the API's, one that says so."""
    if not isinstance(body, dict) or not str(body.get("type", "")).startswith(PREFIX):
        hint = "is that the address of a `wonder serve`?"
        unavailable = status >= 500  # noqa: PLR2004 - the server's
        said = f"the server answered {status}, and not as the API does: {hint}"
        return ServiceUnavailableError(said) if unavailable else WonderError(said)
    kind, detail = str(body["type"]).removeprefix(PREFIX), str(body.get("detail", ""))
    if status >= 500 and body.get("request_id"):  # noqa: PLR2004 - as above
        detail = f"{detail} (request {body['request_id']})"
    if kind == "key-conflict":
        conflict = KeyConflictError(detail)
        conflict.run_id = str(body.get("run_id", ""))
        return conflict
    if kind == "input-refused":
        refused = InputError(detail)
        refused.pointer = str(body.get("pointer", ""))
        return refused
    if kind == "rate-limited":
        return RateLimitedError(detail, retry_after_s=float(body.get("retry_after_s", 1.0)))
    if kind == "not-found":
        return NotFoundError("", detail)
    return _ERRORS.get(kind, WonderError)(detail)
