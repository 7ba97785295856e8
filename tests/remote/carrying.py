"""Transports for tests: into the application in this process, and one that loses what it is told to lose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wonder_ray.remote import Answer, LostError, Request, Streaming

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http.world import Api

BEFORE_SEND, AFTER_SEND, IN_THE_ANSWER = "before it was sent", "after it was sent", "in the answer"
MOMENTS = (BEFORE_SEND, AFTER_SEND, IN_THE_ANSWER)


class InProcess:
    """Requests go into the application."""

    def __init__(self, api: Api) -> None:
        self.sent: list[Request] = []
        self._http: Any = api.http

    def send(self, request: Request) -> Answer:
        self.sent.append(request)
        found = self._http.request(request.method, request.path, content=request.body, headers=dict(request.headers))
        return Answer(found.status_code, {name.lower(): value for name, value in found.headers.items()}, found.content)

    def stream(self, request: Request) -> Streaming:
        found = self.send(request)
        return Streaming(found._replace(body=b"" if found.status == 200 else found.body), iter(found.body.split(b"\n")))


class Losing(InProcess):
    """Loses the connection at one moment of each of its first requests but GETs: the server has had those that were sent."""

    def __init__(self, api: Api, moment: str, times: int = 1, *, reading: bool = False) -> None:
        super().__init__(api)
        self._moment = moment
        self._reading = reading
        self._left = times

    def send(self, request: Request) -> Answer:
        if self._left == 0 or (request.method == "GET" and not self._reading):
            return super().send(request)
        self._left -= 1
        if self._moment != BEFORE_SEND:
            super().send(request)
        raise LostError(f"cut {self._moment}", sent=self._moment != BEFORE_SEND)


class Cutting(InProcess):
    """Cuts each stream of events after so many lines."""

    def __init__(self, api: Api, lines: int) -> None:
        super().__init__(api)
        self._lines = lines

    def stream(self, request: Request) -> Streaming:
        found = super().stream(request)
        return found._replace(lines=self._cut(found.lines))

    def _cut(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        for _, line in zip(range(self._lines), lines, strict=False):
            yield line
        raise LostError("cut", sent=True)
