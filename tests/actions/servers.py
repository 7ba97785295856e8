"""Servers on loopback that answer as a test says, byte by byte; and a resolver that gives the addresses a test says."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wonder_ray.actions.transport import Deadline

    Handler = Callable[["Asked", socket.socket], None]


class Asked:
    """A request as it arrived."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.body = body


class Server:
    """Listens on a port of 127.0.0.1 until the test ends.

    Attributes:
        asked: Every request that arrived whole.
    """

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self._handler = handler
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self.closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                connection, _ = self._socket.accept()
                connection.settimeout(10)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:  # its client has gone, or distrusts it
            plain = connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True)
            with plain:
                received = b""
                while b"\r\n\r\n" not in received:
                    part = plain.recv(65536)
                    if not part:
                        return
                    received += part
                head, _, body = received.partition(b"\r\n\r\n")
                asked = Asked(head, body)
                while len(asked.body) < int(asked.headers.get("content-length", "0")):
                    asked.body += plain.recv(65536)
                self.asked.append(asked)
                self._handler(asked, plain)


@contextmanager
def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(handler, tls)
    try:
        yield server
    finally:
        server.close()


def reply(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of an answer; `content_type="text/plain"` is its header."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *lines, "", ""]).encode("latin-1") + body


def answering(*answers: bytes) -> Handler:
    """Gives these answers one after the other, and the last one ever after."""
    waiting = list(answers)

    def handle(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(waiting.pop(0) if len(waiting) > 1 else waiting[0])

    return handle


class Names:
    """A resolver: what a host resolves to, the next time and the times after that.

    Attributes:
        asked: The hosts that were resolved.
    """

    def __init__(self, hosts: Mapping[str, Sequence[list[str]]]) -> None:
        self._hosts = {host: list(answers) for host, answers in hosts.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int, _deadline: Deadline) -> list[str]:
        self.asked.append(host)
        answers = self._hosts.get(host, [[host]])
        return answers.pop(0) if len(answers) > 1 else answers[0]


def no_resolver(*_args: Any) -> list[str]:
    raise AssertionError("nothing may be resolved")
