"""Requests on their way: one attempt each. That a connection breaks is told; what to do about it is decided above."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import urllib3

from wonder_ray.errors import PayloadError, WonderError
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONNECT_SECONDS: Final = 10.0
OK: Final = 200
ANSWER_SECONDS: Final = 120.0
"""More than a server takes to say that it was too slow."""


AUTHORITIES: Final = "SSL_CERT_FILE"
"""The environment variable of OpenSSL that names who is trusted, instead of those that the system trusts."""
_EMPTY: Final = frozenset({204, 304})


class Request(NamedTuple):
    """One request."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]
    body: bytes | None = None


class Answer(NamedTuple):
    """The whole answer to one."""

    status: int
    headers: Mapping[str, str]
    """By their names in small letters."""
    body: bytes


class Streaming(NamedTuple):
    """An answer that comes line by line."""

    answer: Answer
    """Its body is empty while lines come, as they do when its status is 200."""
    lines: Iterator[bytes]


class LostError(Exception):
    """The connection could not be made, or broke: `sent` tells whether the server may have got the request."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Transport(Protocol):
    """How requests travel."""

    def send(self, request: Request) -> Answer:
        """The answer; a `LostError` when none came."""

    def stream(self, request: Request) -> Streaming:
        """The answer as it comes; a `LostError`, also from its lines, when the connection breaks."""


class UrlTransport:
    """Over the network, with connections that are kept.

    Args:
        url: `http://host:port` or `https://...`; may have a path, under which the API lies.

    Raises:
        WonderError: From its methods: the server's certificate is not trusted. It has been told nothing then.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False, maxsize=8)

    def send(self, request: Request) -> Answer:
        """See `Transport`."""
        try:
            found = self._request(request, preload_content=True)
        except urllib3.exceptions.HTTPError as error:
            raise self._lost(error) from error
        answer = Answer(found.status, _headers(found), found.data)
        if not _is_whole(answer):
            raise LostError(f"the answer ({answer.status}) was cut off", sent=True)
        return answer

    def stream(self, request: Request) -> Streaming:
        """See `Transport`."""
        try:
            found = self._request(request, preload_content=False)
            answer = Answer(found.status, _headers(found), b"" if found.status == OK else found.read())
        except urllib3.exceptions.HTTPError as error:
            raise self._lost(error) from error
        return Streaming(answer, _lines(found))

    def _lost(self, error: Exception) -> LostError | WonderError:
        """What to raise: another try makes no server trusted."""
        if not isinstance(error, urllib3.exceptions.SSLError):
            return _lost(error)
        host = urlsplit(self._url).netloc
        if isinstance(found := error.args[0], ssl.SSLCertVerificationError):
            return WonderError(
                f"the certificate of {host} is not trusted ({found.verify_message}): where a private authority has signed it, "
                f"name that authority's certificate (PEM) in {AUTHORITIES}"
            )
        if "WRONG_VERSION_NUMBER" in str(found) or "RECORD_LAYER_FAILURE" in str(found):
            return WonderError(f"{host} speaks no TLS: is it http://{host}? Then API keys travel unencrypted")
        return _lost(error)

    def _request(self, request: Request, *, preload_content: bool) -> Any:
        return self._pool.request(
            request.method,
            self._url + request.path,
            headers=dict(request.headers),
            body=request.body,
            redirect=False,  # an API key goes nowhere but where it was sent
            preload_content=preload_content,
        )


def _is_whole(answer: Answer) -> bool:
    """Whether nothing of it is missing.

    Python's HTTP takes headers for complete when the connection ends within them, and an answer that does not tell its length
    for complete wherever it ends.
    """
    if answer.status in _EMPTY or {"content-length", "transfer-encoding"} & answer.headers.keys():
        return True
    try:
        decode(answer.body)
    except PayloadError:
        return False
    return True


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    try:
        for chunk in response.stream(65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
    except urllib3.exceptions.HTTPError as error:
        raise _lost(error) from error
    finally:
        response.close()


def _headers(response: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _lost(error: Exception) -> LostError:
    never = isinstance(error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))
    return LostError(f"{type(error).__name__}: {error}", sent=not never)
