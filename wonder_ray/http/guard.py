"""What every request passes through: its id and log lines, its API key, and the limits on its body, its depth, and its time."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.errors import AuthenticationError, ForbiddenError, PayloadError, RateLimitedError, WonderError
from wonder_ray.http.problems import INTERNAL, HttpError, Problem, problem_of, response_of
from wonder_ray.logs.context import log_context
from wonder_ray.values import check_json, decode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from wonder_ray.resources.request_log import Log

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Admit = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
PATH_SHOWN_MAX: Final = 200
HEADER_BYTES_MAX: Final = 64 * 1024
_ONCE: Final = frozenset(
    name.encode()
    for name in (
        "authorization", "content-encoding", "content-length", "content-type", "idempotency-key", "last-event-id",
        "wonder-workspace",
    )
)  # fmt: skip
"""Headers of which another reader might take another one: nobody is to guess which is meant."""
_IN_THREAD_FROM: Final = 64 * 1024
"""A body of that many bytes is looked at in another thread, so that others are not held up."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one request; nesting is bounded by `values.DEPTH_MAX` (64).

    Attributes:
        body_bytes: Of its body.
        body_s: For its body to arrive.
        request_s: Until its response begins. What it has begun by then is carried out, or not, as a whole.
        stream_s: How long a stream of events lasts; its reader then goes on from where it was.
        stream_bytes: How much it holds, but for its last event: Ray Serve keeps in memory what a client does not read.
    """

    body_bytes: int = 2 * 1024 * 1024
    body_s: float = 20.0
    request_s: float = 90.0
    stream_s: float = 900.0
    stream_bytes: int = 8 * 1024 * 1024


class Guard:
    """The outermost part of the application (ASGI).

    | event_type | level | when |
    |---|---|---|
    | `request_received` | info | a request was answered, or its stream began (`method`, `path`, `status`, `duration_ms`, ...) |
    | `auth_failed` | warning | there was no API key, or a wrong one |
    | `access_denied` | warning | a good API key asked for what it is not for |
    | `rate_limited` | warning | an API key or workspace has used up its requests |
    | `request_refused` | warning | a limit on body, depth or time |
    | `request_failed` | error | an error that nobody expected |
    """

    def __init__(self, app: App, log: Log, limits: Limits, admit: Admit) -> None:
        self._app = app
        self._admit = admit
        self._log = log
        self._limits = limits

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with log_context(request_id=_request_id(scope)) as context:
            answer = _Answer(scope, send, self._log, str(context.request_id))
            try:
                _check_headers(scope["headers"])
                await self._admit(scope)
                body = await self._body(scope, receive)
            except _GoneError:
                return
            except HttpError as error:
                self._log.warning("request_refused", str(error), status=error.status, path=_path(scope))
                await response_of(problem_of(error))(scope, receive, answer.send)
                return
            except WonderError as error:
                await response_of(problem_of(error))(scope, receive, answer.send)
                return
            await self._within_time(scope, _replayed(body, receive), answer)

    async def _within_time(self, scope: MutableMapping[str, Any], receive: Receive, answer: _Answer) -> None:
        task = asyncio.ensure_future(self._app(scope, receive, answer.send))
        try:
            await asyncio.wait({task}, timeout=self._limits.request_s)
            if not task.done() and not answer.began:
                late = answer.cut_off()
                task.add_done_callback(_forget)
                msg = f"there was no answer within {self._limits.request_s:g} s; ask again, with the same Idempotency-Key"
                self._log.warning("request_refused", msg, status=504, path=_path(scope))
                await response_of(problem_of(HttpError(504, "timeout", msg)))(scope, receive, late.send)
                return
            await task
        except asyncio.CancelledError:  # the client is gone
            task.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: told, and logged with its stack
            self._log.error("request_failed", str(error), error=error, path=_path(scope))
            if not answer.began:
                await response_of(Problem(500, "internal", INTERNAL, {}, {}))(scope, receive, answer.send)

    async def _body(self, scope: MutableMapping[str, Any], receive: Receive) -> bytes:
        headers = {name.lower(): value for name, value in scope["headers"]}
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise HttpError(415, "encoding", "bodies are read as they are: send it without a Content-Encoding")
        most = self._limits.body_bytes
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(most)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _GoneError
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise _too_large(most)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise HttpError(408, "too-slow", f"the body did not arrive within {self._limits.body_s:g} s") from None
        body = b"".join(parts)
        if body:
            _check_type(headers.get(b"content-type", b""))
            await (asyncio.to_thread(_check, body) if size >= _IN_THREAD_FROM else _soon(body))
        return body


class _Answer:
    """A response on its way out, and its log line."""

    def __init__(self, scope: MutableMapping[str, Any], send: Send, log: Log, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._log = log
        self._request_id = request_id
        self._since = time.perf_counter()
        self._cut = False
        self.began = False

    def cut_off(self) -> _Answer:
        """Send nothing more that comes this way; another way."""
        self._cut = True
        return _Answer(self._scope, self._send, self._log, self._request_id)

    async def send(self, message: Message) -> None:
        """As ASGI's `send`."""
        if self._cut:
            return
        if message["type"] == "http.response.start":
            self.began = True
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self._request_id.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"cache-control", b"no-store"),
            ]
            self._note(message["status"])
        await self._send(message)

    def _note(self, status: int) -> None:
        identity = self._scope.get("state", {}).get("identity")
        who = {} if identity is None else {"key_id": identity.key_id, "workspace_id": identity.workspace_id}
        took = round((time.perf_counter() - self._since) * 1000, 3)
        method, path = self._scope["method"], _path(self._scope)
        message = f"{method} {path}: {status}"
        self._log.info("request_received", message, method=method, path=path, status=status, duration_ms=took, **who)


class _GoneError(Exception):
    """The client has gone."""


def shown(path: str) -> str:
    r"""A path as logs show it.

    >>> shown("/v1/runs/a\nb")
    '/v1/runs/a\\x0ab'
    """
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in path[:PATH_SHOWN_MAX])


def note_refusal(lines: Log, error: WonderError, path: str) -> None:
    """A log line for an API key that was refused, or has asked too much."""
    if isinstance(error, AuthenticationError):
        lines.warning("auth_failed", "a request without a good API key was refused", path=shown(path))
    elif isinstance(error, ForbiddenError):
        lines.warning("access_denied", str(error), path=shown(path))
    elif isinstance(error, RateLimitedError):
        lines.warning("rate_limited", str(error), path=shown(path), retry_after_s=error.retry_after_s)


def _request_id(scope: MutableMapping[str, Any]) -> str:
    """The caller's, where it can be shown; else a new one."""
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-request-id"), "")
    return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _path(scope: MutableMapping[str, Any]) -> str:
    """Without the query, which may hold what no log should, and on one line."""
    return shown(scope["path"])


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, and then what else comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _check(body: bytes) -> None:
    """Raise unless this is JSON that is not too deep."""
    try:
        check_json(decode(body))
    except PayloadError as error:
        raise HttpError(400, "malformed", f"the body: {error}") from None


def _check_headers(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise where there are too many bytes of them, or two where one is meant."""
    seen: set[bytes] = set()
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if size > HEADER_BYTES_MAX:
            raise HttpError(431, "headers-too-large", f"the headers have more than {HEADER_BYTES_MAX:,} bytes")
        if (small := name.lower()) in _ONCE:
            if small in seen:
                raise HttpError(400, "malformed", f"the header {small.decode()} came twice: say which one is meant")
            seen.add(small)


def _check_type(given: bytes) -> None:
    kind = given.partition(b";")[0].strip().lower()
    if kind != b"application/json":
        said = repr(kind.decode("latin-1")[:80]) if kind else "of no type"
        raise HttpError(415, "media-type", f"the body is {said}: send it as JSON, with `Content-Type: application/json`")


async def _soon(body: bytes) -> None:
    _check(body)


def _too_large(most: int) -> HttpError:
    return HttpError(413, "too-large", f"the body has more than {most:,} bytes: put the data into a file and pass its name")


def _forget(task: asyncio.Future[None]) -> None:
    """Its client has been answered; it was logged where it failed."""
    with suppress(asyncio.CancelledError):
        task.exception()
