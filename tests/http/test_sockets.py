"""What only shows on a real socket: clients that are slow, and requests that no library would send."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.http.world import Api
from tests.remote.sockets import HOST, served
from wonder_ray.http import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WaitUntil

SECONDS = 30.0


def answer(port: int, *parts: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection((HOST, port), timeout=SECONDS) as connection:
        for part in parts:
            connection.sendall(part)
        found = b""
        while data := connection.recv(65_536):
            found += data
        return found


def head(api: Api, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} /v1/runs HTTP/1.1", "Host: x", f"Authorization: Bearer {api.key}", "Content-Type: application/json"]
    return "\r\n".join([*lines, "Connection: close", *headers, "", ""]).encode()


def status_of(found: bytes) -> int:
    return int(found.split(b" ", 2)[1])


BODY = b'{"workflow":"approval","input":{}}'


@pytest.mark.parametrize("promise", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_body_that_never_ends_is_given_up(storage: Path, wait_until: WaitUntil, promise: str) -> None:
    api = Api(storage, Limits(body_s=0.3))
    with served(api.app, wait_until) as port:
        found = answer(port, head(api, promise), b"5\r\n     \r\n")
    assert status_of(found) == 408
    assert b"application/problem+json" in found
    assert api.resources.list_runs().runs == []


def test_a_chunked_body_is_read_within_the_limit(storage: Path, wait_until: WaitUntil) -> None:
    api = Api(storage, Limits(body_bytes=1_000))
    with served(api.app, wait_until) as port:
        whole = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
        assert status_of(answer(port, head(api, "Transfer-Encoding: chunked"), whole)) == 202
        much = b"".join(b"64\r\n%s\r\n" % (b" " * 100) for _ in range(20))
        assert status_of(answer(port, head(api, "Transfer-Encoding: chunked"), much)) == 413
    assert len(api.resources.list_runs().runs) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Content-Length: 34", "Idempotency-Key: a", "Idempotency-Key: b"], 400),
        (["Content-Length: 34", "Content-Length: 3"], 400),
        (["Content-Length: 34", "Content-Encoding: gzip"], 415),
        (["Content-Length: 99999999"], 413),
        (["Content-Length: -1"], 400),
    ],
)
def test_what_no_library_would_send_is_refused(api: Api, wait_until: WaitUntil, headers: list[str], status: int) -> None:
    with served(api.app, wait_until) as port:
        assert status_of(answer(port, head(api, *headers), BODY)) == status
    assert api.resources.list_runs().runs == []


def test_an_answer_to_head_has_no_body(api: Api, wait_until: WaitUntil) -> None:
    with served(api.app, wait_until) as port:
        found = answer(port, head(api, method="HEAD"))
    assert (status_of(found), found.partition(b"\r\n\r\n")[2]) == (405, b"")
    assert b"allow: GET, POST" in found
