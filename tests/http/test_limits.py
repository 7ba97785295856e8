"""What is too large, too deep, too slow or no JSON is refused, before anything looks at it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.http.world import Api
from wonder_ray.http import Limits
from wonder_ray.http.guard import Guard

if TYPE_CHECKING:
    from pathlib import Path


def post(api: Api, content: bytes, **headers: str) -> Any:
    sent = {"Authorization": f"Bearer {api.key}", "Content-Type": "application/json"} | headers
    return api.http.post("/v1/runs", content=content, headers=sent)


def start_with(value: bytes) -> bytes:
    return b'{"workflow":"approval","input":' + value + b"}"


def test_a_body_may_have_two_megabytes_and_no_more(api: Api) -> None:
    fits = start_with(b'"' + b"x" * (2 * 1024 * 1024 - 100) + b'"')
    assert post(api, fits).status_code == 202
    answer = post(api, fits + b" " * 200)
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:wonder-ray:problem:too-large")


def test_a_body_of_unknown_length_is_cut_off(api: Api) -> None:
    taken = []

    def parts() -> Any:
        for number in range(1000):
            taken.append(number)
            yield b" " * 100_000

    sent = {"Authorization": f"Bearer {api.key}", "Content-Type": "application/json"}
    assert api.http.post("/v1/runs", content=parts(), headers=sent).status_code == 413


@pytest.mark.parametrize(("depth", "status"), [(63, 202), (64, 400), (100_000, 400)])
def test_a_body_may_be_nested_64_deep(api: Api, depth: int, status: int) -> None:
    assert post(api, start_with(b"[" * depth + b"]" * depth)).status_code == status


@pytest.mark.parametrize(
    "content", [b"{", b"NaN", start_with(b"Infinity"), start_with(b'"\xff"'), start_with(b'"\\ud800"'), b"\0"]
)
def test_what_is_no_json_is_refused(api: Api, content: bytes) -> None:
    assert post(api, content).status_code == 400


def test_a_compressed_body_is_refused(api: Api) -> None:
    assert post(api, b"x", **{"Content-Encoding": "gzip"}).status_code == 415


def test_an_unknown_path_and_method_are_problems(api: Api) -> None:
    for answer, status in ((api.call("GET", "/v1/nothing"), 404), (api.call("DELETE", "/v1/runs"), 405)):
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert api.logged("request_received")[0]["path"] == "/v1/nothing"


def test_an_answer_that_takes_too_long_is_told_of(storage: Path) -> None:
    api = Api(storage, Limits(request_s=0.2))
    released = threading.Event()
    call = api.services.call

    def slow(service: str, method: str, *args: Any, **named: Any) -> Any:
        if method == "list_runs":
            released.wait(10)
        return call(service, method, *args, **named)

    api.services.call = slow  # type: ignore[method-assign] # as if the registry were slow
    try:
        with api.http:  # one event loop, in which the late answer can end
            answer = api.call("GET", "/v1/runs")
            released.set()
        assert (answer.status_code, answer.json()["type"]) == (504, "urn:wonder-ray:problem:timeout")
    finally:
        released.set()


def test_a_body_that_does_not_arrive_is_given_up(api: Api) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/runs", "headers": []}

    async def admit(_scope: Any) -> None:
        """Everybody."""

    guard = Guard(api.app, api.log, Limits(body_s=0.01), admit)
    asyncio.run(guard(scope, receive, send))
    assert sent[0]["status"] == 408


@pytest.mark.parametrize("name", ["Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "Wonder-Workspace"])
def test_a_header_that_comes_twice_is_refused(api: Api, name: str) -> None:
    key = api.key
    sent = [("Authorization", f"Bearer {key}"), ("Content-Type", "application/json"), ("Idempotency-Key", "a")]
    sent += [("Content-Encoding", "identity"), ("Wonder-Workspace", "default")]
    body = start_with(b"{}")
    answer = api.http.post("/v1/runs", content=body, headers=[*sent, (name.lower(), dict(sent)[name])])
    assert (answer.status_code, "came twice" in answer.json()["detail"]) == (400, True)
    assert api.resources.list_runs().runs == []
    assert api.http.post("/v1/runs", content=body, headers=sent).status_code == 202


def test_headers_may_have_64_kilobytes_and_no_more(api: Api) -> None:
    big = api.http.get("/health", headers={"X-Big": "x" * 65_536})
    assert (big.status_code, big.json()["type"]) == (431, "urn:wonder-ray:problem:headers-too-large")
    assert api.http.get("/health", headers={"X-Big": "x" * 60_000}).status_code == 200


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json-patch"])
def test_a_body_that_is_no_json_by_its_type_is_refused(api: Api, kind: str) -> None:
    answer = post(api, start_with(b"{}"), **{"Content-Type": kind})
    assert (answer.status_code, "Content-Type: application/json" in answer.json()["detail"]) == (415, True)
    assert post(api, start_with(b"{}"), **{"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 202


@pytest.mark.parametrize("key", ["k" * 257, "k" * 50_000])
def test_a_key_that_is_too_long_is_refused(api: Api, key: str) -> None:
    assert post(api, start_with(b"{}"), **{"Idempotency-Key": key}).status_code == 422
    assert post(api, start_with(b"{}"), **{"Idempotency-Key": key[:256]}).status_code == 202


def test_other_methods_are_told_which_there_are(api: Api) -> None:
    for method, body in (("HEAD", False), ("OPTIONS", True), ("TRACE", True), ("PATCH", True)):
        answer = api.call(method, "/v1/runs", key="")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
        assert answer.headers["content-type"] == "application/problem+json"
        assert bool(answer.content) == body


def test_nothing_is_redirected(api: Api) -> None:
    assert api.call("GET", "/v1/runs/").status_code == 404


def test_log_lines_of_requests_hold_neither_keys_nor_bodies_nor_queries_and_are_one_line(api: Api) -> None:
    posted = post(api, start_with(b'"canary-body"'), **{"Idempotency-Key": "canary-key", "X-Request-ID": "r1"})
    api.call("GET", "/v1/runs/a%0ab%1b?workflow=canary-query", X_Request_ID="r2")
    posted_line, shown_line = api.logged("request_received")
    assert (posted.status_code, posted_line["status"], posted_line["method"]) == (202, 202, "POST")
    assert posted_line["duration_ms"] > 0
    assert shown_line["path"] == "/v1/runs/a\\x0ab\\x1b"
    assert "canary" not in repr(api.log.lines)
    assert api.key not in repr(api.log.lines)
    assert all("\n" not in message for _, _, message, _ in api.log.lines)


@pytest.mark.parametrize("given", ["a b", "x" * 65, "é", ""])
def test_a_request_id_that_cannot_be_shown_is_replaced(api: Api, given: str) -> None:
    answer = api.http.get("/health", headers={b"X-Request-ID": given.encode()})
    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 16


def test_health_and_readiness_need_no_key(api: Api) -> None:
    assert api.call("GET", "/health", key="").json() == {"status": "ok"}
    assert api.call("GET", "/ready", key="").json() == {"status": "ok"}


def test_it_is_not_ready_while_a_service_is_away(api: Api) -> None:
    from wonder_ray.errors import ServiceUnavailableError

    api.services.broken["ping"] = ServiceUnavailableError("away")
    assert api.call("GET", "/ready", key="").status_code == 503
    assert api.call("GET", "/health", key="").status_code == 200


def test_the_document_has_examples_and_problems(api: Api) -> None:
    document = api.call("GET", "/openapi.json", key="").json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"]
            if path.startswith("/v1"):
                assert "application/problem+json" in operation["responses"]["401"]["content"]
                assert operation["security"] == [{"HTTPBearer": []}]
    assert document["components"]["schemas"]["StartBody"]["properties"]["workflow"]["examples"] == ["crawl"]
