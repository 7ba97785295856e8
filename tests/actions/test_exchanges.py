"""HTTP requests against servers that answer as they should not, and hosts that resolve to what they should not."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.actions.asking import HERE, JSON, ask, failure
from tests.actions.servers import answering, no_resolver, reply, serving
from wonder_ray.actions import http_request
from wonder_ray.actions.exchanges import Request
from wonder_ray.actions.policy import REFUSED, Policy
from wonder_ray.actions.transport import TIMEOUT, TOO_LARGE, UNREACHABLE, Deadline, resolve
from wonder_ray.errors import ActionError, SecretError
from wonder_ray.executor.context import TaskContext, task_context
from wonder_ray.executor.secrets import Secret, secret_values

if TYPE_CHECKING:
    import socket

    from tests.actions.servers import Asked


def test_an_answer_becomes_a_result() -> None:
    with serving(answering(reply(200, b'{"n": 1}', content_type="application/json; charset=utf-8", set_cookie="id=7"))) as server:
        found = ask(server, "/a?b=c", headers={"X-Mine": "yes", "accept": "application/json"})
        assert found == {
            "status": 200,
            "url": f"{server.url}/a?b=c",
            "headers": {"content-length": "8", "content-type": "application/json; charset=utf-8"},
            "body": {"n": 1},
        }
        asked = server.asked[0]
        assert (asked.method, asked.path, asked.body) == ("GET", "/a?b=c", b"")
        assert asked.headers == {
            "host": f"127.0.0.1:{server.port}",
            "accept": "application/json",
            "accept-encoding": "identity",
            "connection": "close",
            "user-agent": "wonder-ray",
            "x-mine": "yes",
        }


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (reply(200, "né".encode(), content_type="text/plain"), "né"),
        (reply(200, "né".encode("latin-1"), content_type="text/plain; charset=latin-1"), "né"),
        (reply(200, b"n\xff", content_type="text/html; charset=nonsense"), "n\ufffd"),
        (reply(200, b"<a/>", content_type="application/soap+xml"), "<a/>"),
        (reply(200, b"\0\1", content_type="image/png"), {"base64": "AAE="}),
        (reply(200, b"x"), {"base64": "eA=="}),
        (reply(204), None),
        (
            b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            "abc",
        ),
        (b"HTTP/1.0 200 X\r\nContent-Type: text/plain\r\n\r\nto the end", "to the end"),
    ],
)
def test_bodies_of_each_kind(answer: bytes, body: object) -> None:
    with serving(answering(answer)) as server:
        assert ask(server)["body"] == body


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 501, 505])
def test_a_status_that_will_stay_is_not_retryable(status: int) -> None:
    with serving(answering(reply(status, b"no\x1b[31m", content_type="text/plain"))) as server:
        error = failure(Request(url=server.url + "/a?key=x"), HERE)
        assert (error.type, error.retryable) == (f"Http{status}", False)
        assert error.message == f"GET {server.url}/a: {status}: no [31m"
        assert ask(server, accept=frozenset({status}))["status"] == status


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_retryable(status: int) -> None:
    with serving(answering(reply(status))) as server:
        error = failure(Request(url=server.url), HERE)
        assert (error.type, error.retryable) == (f"Http{status}", True)


def test_loopback_is_refused_by_default_without_a_connection() -> None:
    with serving(answering(JSON)) as server:
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"):
            error = failure(Request(url=f"http://{host}:{server.port}/"), Policy())
            assert (error.type, error.retryable) == (REFUSED, False)
        assert server.asked == []


def test_a_host_that_nobody_knows_may_be_known_later() -> None:
    error = failure(Request(url="http://nobody-knows-this.invalid/"), Policy())
    assert (error.type, error.retryable) == (UNREACHABLE, True)


def test_a_resolver_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def never(*_args: Any, **_named: Any) -> Any:
        released.wait(10)
        raise OSError("too late")

    monkeypatch.setattr("socket.getaddrinfo", never)
    try:
        with pytest.raises(ActionError) as raised:
            resolve("slow.test", 80, Deadline(0.05))
        assert (raised.value.type, raised.value.retryable) == (TIMEOUT, True)
    finally:
        released.set()


def test_a_server_that_is_not_there_is_worth_another_attempt() -> None:
    with serving(answering(JSON)) as server:
        pass
    error = failure(Request(url=server.url), HERE)
    assert (error.type, error.retryable) == (UNREACHABLE, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\1\2\3" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 xyz X\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nshort",
        b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 X\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_whole_answer_is_worth_another_attempt(answer: bytes) -> None:
    with serving(answering(answer)) as server:
        error = failure(Request(url=server.url), HERE)
        assert (error.type, error.retryable) == (UNREACHABLE, True)


def endless(head: bytes, part: bytes) -> Any:
    """A handler that sends without end, and notes how much it got rid of."""

    def handle(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)
            handle.sent += len(part)  # type: ignore[attr-defined] # a counter of its own

    handle.sent = 0  # type: ignore[attr-defined] # as above
    return handle


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"HTTP/1.1 200 X\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
        (b"HTTP/1.1 200 X\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    ],
)
def test_an_answer_without_end_is_cut_off(head: bytes, part: bytes) -> None:
    handler = endless(head, part)
    with serving(handler) as server:
        error = failure(Request(url=server.url, bytes_max=100_000), HERE)
        assert (error.type, error.retryable) == (TOO_LARGE, False)
    assert handler.sent < 20_000_000  # what two sockets buffer


@pytest.mark.parametrize("slow", [b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n", b"HTTP/1.1 200 X\r\nA: "])
def test_a_server_that_answers_a_byte_at_a_time_is_given_up(slow: bytes) -> None:
    given_up = threading.Event()

    def drip(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(slow)
        while not given_up.wait(0.02):
            connection.sendall(b"x")

    with serving(drip) as server:
        began = time.monotonic()
        error = failure(Request(url=server.url, timeout_s=0.3), HERE)
        given_up.set()
        assert (error.type, error.retryable) == (TIMEOUT, True)
        assert time.monotonic() - began < 5


def test_a_server_that_says_nothing_is_given_up() -> None:
    def silent(_asked: Asked, connection: socket.socket) -> None:
        connection.recv(1)

    with serving(silent) as server:
        assert failure(Request(url=server.url, timeout_s=0.1), HERE).type == TIMEOUT


def test_redirects_share_one_time() -> None:
    pause = threading.Event()

    def slow(_asked: Asked, connection: socket.socket) -> None:
        pause.wait(0.05)
        connection.sendall(reply(302, location="/again"))

    with serving(slow) as server:
        assert failure(Request(url=server.url, timeout_s=0.3, redirects=20), HERE).type == TIMEOUT


def test_a_compressed_answer_is_refused_not_unpacked() -> None:
    with serving(answering(reply(200, b"\x1f\x8b", content_encoding="gzip", content_type="application/json"))) as server:
        assert failure(Request(url=server.url), HERE).type == "HttpUnreadable"


@pytest.mark.parametrize("body", [b"{", b"NaN", b"[" * 100 + b"]" * 100, b"[" * 100_000, b'{"a": 1e999}'])
def test_json_that_is_none_is_refused(body: bytes) -> None:
    with serving(answering(reply(200, body, content_type="application/json"))) as server:
        error = failure(Request(url=server.url), HERE)
        assert (error.type, error.retryable) == ("HttpUnreadable", False)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "a\r\nX-B: c"},
        {"X-A": "a\nb"},
        {"X-A": "a\0b"},
        {"X-A": "é"},
        {"X-A\r\nX-B": "c"},
        {"X A": "b"},
        {"X-A:": "b"},
        {"": "b"},
        {"X-" + "a" * 200: "b"},
        {"Host": "evil.example"},
        {"content-length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "keep-alive"},
        {"Proxy-Authorization": "x"},
        {"Upgrade": "h2c"},
        {"TE": "trailers"},
        {"Expect": "100-continue"},
        {"Accept-Encoding": "gzip"},
        {"Idempotency-Key": "mine"},
        {f"X-{number}": "x" for number in range(100)},
        {"X-A": "x" * 20_000},
    ],
)
def test_a_header_that_changes_the_request_is_refused(headers: dict[str, str]) -> None:
    error = failure(Request(url="https://example.com/", headers=headers), HERE, resolver=no_resolver)
    assert (error.type, error.retryable) == (REFUSED, False)


def test_a_token_that_is_no_header_is_not_quoted() -> None:
    error = failure(Request(url="https://example.com/", token=("Authorization", "hunter2\nX: y")), HERE, resolver=no_resolver)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "TRACE"},
        {"method": "CONNECT"},
        {"method": "GET / HTTP/1.1\r\nHost: evil"},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"timeout_s": 1e9},
        {"redirects": -1},
        {"redirects": 1000},
        {"bytes_max": 0},
        {"bytes_max": 10**9},
        {"body": b"x" * 2_000_000, "method": "POST"},
    ],
)
def test_a_request_has_limits(fields: dict[str, Any]) -> None:
    error = failure(Request(url="https://example.com/", **fields), HERE, resolver=no_resolver)
    assert (error.type, error.retryable) == (REFUSED, False)


def test_the_action_fills_templates_and_sends_token_and_idempotency_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WONDER_HTTP_NETWORKS", "127.0.0.1/32")
    context = TaskContext("run_1", "ask", "t_1", 2, 1, "run_1/t_1")
    with serving(answering(JSON)) as server, secret_values({"api": "sk-12345678"}), task_context(context):
        found = http_request(
            server.url + "/users/{{ user.id }}",
            "post",
            headers={"X-User": "{{ user.id }}"},
            json={"user": "{{ user }}", "greeting": "dear {{ user.id }}"},
            values={"user": {"id": "a/b"}},
            token=Secret("api"),
        )
        asked = server.asked[0]
        assert (found["body"], asked.method, asked.path) == ({"n": 1}, "POST", "/users/a%2Fb")
        assert asked.body == b'{"user":{"id":"a/b"},"greeting":"dear a/b"}'
        assert {name: asked.headers[name] for name in ("authorization", "idempotency-key", "x-user", "content-type")} == {
            "authorization": "Bearer sk-12345678",
            "idempotency-key": "run_1/t_1",
            "x-user": "a/b",
            "content-type": "application/json",
        }
        http_request(server.url, "PUT", body="{{ as it is }}", token=Secret("api"), token_header="X-Key", token_prefix="")
        assert (server.asked[1].body, server.asked[1].headers["x-key"]) == (b"{{ as it is }}", "sk-12345678")
        http_request(server.url)
        assert "idempotency-key" not in server.asked[2].headers


def test_the_action_outside_of_a_task_sends_no_key_and_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WONDER_HTTP_NETWORKS", "127.0.0.1/32")
    with serving(answering(JSON)) as server:
        http_request(server.url, "POST", body="x")
        assert "idempotency-key" not in server.asked[0].headers
        with pytest.raises(SecretError):
            http_request(server.url, token=Secret("api"))
        with pytest.raises(ActionError, match="not both"):
            http_request(server.url, json={}, body="x")


def test_the_action_reaches_no_loopback_unless_it_is_allowed() -> None:
    with serving(answering(JSON)) as server:
        with pytest.raises(ActionError, match="no public address"):
            http_request(server.url)
        assert server.asked == []
