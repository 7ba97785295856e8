"""One HTTP exchange with one address: no redirects, no proxies, no decompression, and an end to its time and its size.

The time is that of the whole exchange: every read and write gets what is left of it, so that a server that sends a byte a second
cannot hold a task. The size counts raw bytes, headers and chunk framing included.
"""

from __future__ import annotations

import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from wonder_ray.errors import ActionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wonder_ray.actions.policy import Target

Resolver: TypeAlias = "Callable[[str, int, Deadline], list[str]]"
"""Gives the addresses of a host."""
TIMEOUT: Final = "HttpTimeout"
UNREACHABLE: Final = "HttpUnreachable"
UNTRUSTED: Final = "HttpUntrusted"
TOO_LARGE: Final = "HttpTooLarge"
_HEAD_BYTES_MAX: Final = 256 * 1024
"""Of status line, headers, and what frames the chunks of a body."""
_READ_BYTES: Final = 64 * 1024
_TLS_PORT: Final = 443


class Reply(NamedTuple):
    """What a server has answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Deadline:
    """When an exchange has to be over; `clock` is monotonic."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = seconds
        self._end = clock() + seconds

    def left(self) -> float:
        """Seconds, more than none; an `ActionError` when there are none left."""
        left = self._end - self._clock()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> ActionError:
        """What is raised when it has passed."""
        return ActionError(TIMEOUT, f"there was no whole answer within {self._seconds:g} s")


def resolve(host: str, port: int, deadline: Deadline) -> list[str]:
    """The addresses of a host, as the system finds them, each once."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    found: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.put(list(dict.fromkeys(str(answer[4][0]) for answer in answers)))
        except (OSError, UnicodeError) as error:
            found.put(error)

    # In a thread, which may stay behind: there is no other way to give up waiting for the system's resolver.
    threading.Thread(target=ask, name="wonder-resolve", daemon=True).start()
    try:
        answer = found.get(timeout=deadline.left())
    except queue.Empty:
        raise deadline.passed() from None
    if isinstance(answer, list):
        return answer
    raise ActionError(UNREACHABLE, f"{host}: its address was not found: {answer}")


def exchange(
    target: Target,
    addresses: Sequence[str],
    method: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    deadline: Deadline,
    bytes_max: int,
    tls: ssl.SSLContext,
) -> Reply:
    """Ask the first of these addresses that takes a connection.

    Raises:
        ActionError: No connection, no trust, too late, too large, or no HTTP; it says whether another attempt may help.
    """
    connection = _Connection(target, addresses, deadline, bytes_max, tls)
    try:
        connection.request(method, target.path, body, dict(headers))
        response = connection.getresponse()
        announced = response.length or 0
        if announced > bytes_max:
            raise _too_large(target, bytes_max)
        content = io.BytesIO()
        while part := response.read(_READ_BYTES):
            content.write(part)
            if content.tell() > bytes_max:
                raise _too_large(target, bytes_max)
        if response.length and method != "HEAD":
            raise ActionError(UNREACHABLE, f"{target.shown}: the connection ended {response.length} bytes before the answer did")
        return Reply(response.status, response.getheaders(), content.getvalue())
    except TimeoutError:
        raise deadline.passed() from None
    except ssl.SSLCertVerificationError as error:
        raise ActionError(UNTRUSTED, f"{target.shown}: {error.verify_message}", retryable=False) from None
    except (OSError, HTTPException) as error:
        raise ActionError(UNREACHABLE, f"{target.shown}: {type(error).__name__}: {error}") from None
    finally:
        connection.shut()


def _too_large(target: Target, bytes_max: int) -> ActionError:
    return ActionError(TOO_LARGE, f"{target.shown}: the answer has more than {bytes_max:,} bytes", retryable=False)


class _Connection(HTTPConnection):
    """To addresses that were found, and judged, before; the host's name is for the `Host` header and the certificate."""

    def __init__(self, target: Target, addresses: Sequence[str], deadline: Deadline, bytes_max: int, tls: ssl.SSLContext) -> None:
        super().__init__(target.host, target.port)
        self._target = target
        self._addresses = addresses
        self._deadline = deadline
        self._raw_bytes_max = bytes_max + _HEAD_BYTES_MAX
        self._tls = tls
        self._opened: socket.socket | None = None
        if target.scheme == "https":
            self.default_port = _TLS_PORT

    def connect(self) -> None:
        """Connect, and do nothing that could ask a resolver."""
        self._opened = self._open()
        if self._target.scheme == "https":
            self._opened.settimeout(self._deadline.left())
            self._opened = self._tls.wrap_socket(self._opened, server_hostname=self._target.host)
        timed: Any = _TimedSocket(self._opened, self._deadline, _Budget(self._target, self._raw_bytes_max))
        self.sock = timed

    def shut(self) -> None:
        """Close all of it."""
        self.close()
        if self._opened is not None:
            self._opened.close()

    def _open(self) -> socket.socket:
        problem: OSError | None = None
        for address in self._addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with ExitStack() as opened:
                sock = socket.socket(family, socket.SOCK_STREAM)
                opened.callback(sock.close)
                sock.settimeout(self._deadline.left())
                try:
                    sock.connect((address, self._target.port))
                except OSError as error:
                    problem = error
                else:
                    opened.pop_all()  # it stays open
                    return sock
        raise problem or OSError("it has no address")


class _Budget:
    """How many bytes may still come."""

    def __init__(self, target: Target, bytes_max: int) -> None:
        self._target = target
        self._left = bytes_max
        self._bytes_max = bytes_max

    def take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _too_large(self._target, self._bytes_max)


class _TimedSocket:
    """A socket each of whose operations gets what is left of the time; it has what http.client uses of one."""

    def __init__(self, sock: socket.socket, deadline: Deadline, budget: _Budget) -> None:
        self._sock = sock
        self._deadline = deadline
        self._budget = budget

    def sendall(self, data: Any) -> None:
        view = memoryview(data)
        while view:
            self._sock.settimeout(self._deadline.left())
            view = view[self._sock.send(view) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline, self._budget))

    def close(self) -> None:
        """Nothing yet: the answer is read when http.client has closed its connection. See `shut`."""


class _Incoming(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline, budget: _Budget) -> None:
        self._sock = sock
        self._deadline = deadline
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left())
        count = self._sock.recv_into(buffer)
        self._budget.take(count)
        return count
