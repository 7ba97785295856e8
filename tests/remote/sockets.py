"""The application behind a real socket, and a proxy in front of it that cuts connections after so many bytes."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import WaitUntil

REQUEST, ANSWER = "request", "answer"
HOST: Final = "127.0.0.1"


@contextmanager
def served(app: Any, wait_until: WaitUntil, **options: Any) -> Iterator[int]:
    """The port of a server of the application, in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(app, HOST, 0, log_level="critical", lifespan="off", **options))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, what="the server to listen")
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)


class CuttingProxy:
    """Passes bytes on to a port of this machine; cuts all connections once so many have passed in one direction."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server((HOST, 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._left: dict[str, int] = {}
        self._passed = {REQUEST: 0, ANSWER: 0}
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._listener.getsockname()[1]}"

    def cut_after(self, count: int, direction: str) -> None:
        """Once, from here on; after 0 bytes is when the first one comes, which is not passed on."""
        with self._lock:
            self._left = {direction: count}
            self._passed = {REQUEST: 0, ANSWER: 0}

    def passed(self, direction: str) -> int:
        """How many bytes have gone there since."""
        with self._lock:
            return self._passed[direction]

    def close(self) -> None:
        self._listener.close()
        with self._lock:
            self._cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((HOST, self._target))
                with self._lock:
                    self._open += [client, server]
                for ends in ((REQUEST, client, server), (ANSWER, server, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, direction: str, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                with self._lock:
                    self._passed[direction] += len(data)
                    left = self._left.get(direction)
                    if left is not None and len(data) >= left:
                        self._left = {}
                        self.cuts += 1
                        target.sendall(data[:left])
                        self._cut()
                        return
                    if left is not None:
                        self._left[direction] = left - len(data)
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _cut(self) -> None:
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open = []
