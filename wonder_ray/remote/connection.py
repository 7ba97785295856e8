"""Calls of the API: repeated until they are answered, with the same key, so that what they ask for is done once.

>>> path_of("/v1/runs", {"limit": 5, "status": ["failed", "cancelled"], "cursor": None})
'/v1/runs?limit=5&status=failed&status=cancelled'
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from wonder_ray.errors import PayloadError, ServiceUnavailableError
from wonder_ray.remote.problems import error_of
from wonder_ray.remote.transport import OK, Answer, LostError, Request
from wonder_ray.values import decode, encode_trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wonder_ray.remote.transport import Streaming, Transport

PATIENCE_SECONDS: Final = 60.0
"""How long a server may be away before its caller is told."""
PAUSE_SECONDS: Final = 0.1
PAUSE_MAX: Final = 2.0
PASSING: Final = frozenset({429, 502, 503, 504})
"""Statuses of answers that another try may better."""
NOTHING_MORE: Final = 204
ARROW: Final = "application/vnd.apache.arrow.stream"


class Connection:
    """The way to one API, for one API key.

    Args:
        transport: How requests travel.
        api_key: `wonder_...`.
        workspace: The workspace that is meant; by default the key's.
        patience_s: How long to go on repeating a call that gets no answer.
        on_silence: Told when a call gets no answer for the first time, and is repeated.

    Attributes:
        workspace: As given.
    """

    def __init__(
        self,
        transport: Transport,
        api_key: str | None,
        workspace: str | None = None,
        *,
        patience_s: float = PATIENCE_SECONDS,
        on_silence: Callable[[str], None] | None = None,
    ) -> None:
        self._transport = transport
        self._patience_s = patience_s
        self._on_silence = on_silence
        self.workspace = workspace
        self._headers = {"Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        if workspace:
            self._headers["Wonder-Workspace"] = workspace

    def in_workspace(self, workspace: str) -> Connection:
        """The same way, with another workspace meant."""
        found = Connection(self._transport, None, workspace, patience_s=self._patience_s, on_silence=self._on_silence)
        found._headers = self._headers | found._headers
        return found

    def get(self, path: str, **query: Any) -> Any:
        """What is at a path."""
        return self._call(Request("GET", path_of(path, query), self._headers))

    def post(
        self, path: str, body: object = None, *, key: str | None = None, repeatable: bool = True, method: str = "POST"
    ) -> Any:
        """Ask for something to be done.

        Args:
            path: Where.
            body: JSON.
            key: The `Idempotency-Key`.
            repeatable: Whether to repeat it where it may have been done: not, where that would do it twice.
            method: `POST`, `PUT`, `PATCH` or `DELETE`.
        """
        headers = dict(self._headers)
        content = None
        if body is not None:
            content = encode_trusted(body)
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        return self._call(Request(method, path, headers, content), repeatable=repeatable)

    def fetch(self, path: str, accept: str, body: object = None) -> bytes:
        """What is at a path (or answers a question that changes nothing), in another form than JSON."""
        headers = self._headers | {"Accept": accept}
        if body is None:
            found: bytes = self._call(Request("GET", path, headers))
        else:
            found = self._call(Request("POST", path, headers | {"Content-Type": "application/json"}, encode_trusted(body)))
        return found

    def stream(self, path: str, after: int) -> Streaming | None:
        """Server-sent events after a number, line by line; None when there are no more to come. Tried once."""
        headers = self._headers | {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        found = self._transport.stream(Request("GET", path, headers))
        if found.answer.status == NOTHING_MORE:
            return None
        if found.answer.status in PASSING:
            raise LostError(f"the server answers {found.answer.status}", sent=True)
        _value(found.answer)
        return found

    def _call(self, request: Request, *, repeatable: bool = True) -> Any:
        deadline = time.monotonic() + self._patience_s
        pause = PAUSE_SECONDS
        while True:
            try:
                answer = self._transport.send(request)
            except LostError as error:
                if (error.sent and not repeatable) or time.monotonic() + pause > deadline:
                    again = "it may be repeated, with the same key" if repeatable else "whether it was done is unknown"
                    msg = f"the API did not answer {request.method} {request.path}: {error}; {again}"
                    raise ServiceUnavailableError(msg) from None
                self._tell_silence(error)
            else:
                pause = max(pause, _asked_to_wait(answer))
                if answer.status not in PASSING or not repeatable or time.monotonic() + pause > deadline:
                    return _value(answer)
            time.sleep(pause)
            pause = min(PAUSE_MAX, 2 * pause)

    def _tell_silence(self, error: LostError) -> None:
        if self._on_silence is not None:
            self._on_silence(f"no answer yet ({error}); asking again for up to {self._patience_s:g} s")
            self._on_silence = None


def path_of(path: str, query: Mapping[str, Any]) -> str:
    """A path with a query, without what is None."""
    given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def segment(text: str) -> str:
    """A text as one part of a path.

    >>> segment("a/../b")
    'a%2F..%2Fb'
    """
    return quote(text, safe="") if text.strip(".") else f"%2E{text[1:]}"


def _asked_to_wait(answer: Answer) -> float:
    told = answer.headers.get("retry-after", "0")
    return float(told) if told.isdigit() else 0.0


def _value(answer: Answer) -> Any:
    if answer.status == OK and answer.headers.get("content-type", "").startswith("text/event-stream"):
        return None
    if answer.status == OK and answer.headers.get("content-type", "").startswith(ARROW):
        return answer.body
    try:
        body = decode(answer.body) if answer.body else None
    except PayloadError:
        body = None
    if answer.status < 300:  # noqa: PLR2004 - done
        return body
    raise error_of(answer.status, body)
