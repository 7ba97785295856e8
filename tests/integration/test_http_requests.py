"""The HTTP action in runs on Ray: what it may reach is up to the executors, and what it sends survives attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.actions.servers import answering, reply, serving
from tests.integration.helpers import SECONDS, of_type, rows_of
from wonder_ray.actions import http_request
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.models import Retry
from wonder_ray.errors import RunFailedError
from wonder_ray.executor.secrets import Secret

if TYPE_CHECKING:
    from wonder_ray.client import Client

OPENED = {"env_vars": {"WONDER_HTTP_NETWORKS": "127.0.0.1/32"}}
TWICE = Retry(max_attempts=2, backoff_s=0.01)


def asking() -> Workflow:
    flow = Workflow("asking", output={"answer": "state.answer"})
    sent: dict[str, str | Secret] = {
        "url": "input.url + '/users/{{ id }}'",
        "method": "'POST'",
        "values": "{'id': input.id}",
        "json": "{'id': '{{ id }}'}",
        "token": Secret("http-api"),
    }
    flow.node("ask", http_request, input=sent, output={"state.answer": "result.body"}, retry=TWICE)
    return flow


def test_an_attempt_after_an_error_sends_the_same_key_and_no_secret_is_kept(client: Client) -> None:
    client.admin.put_secret("http-api", value="a-token-for-the-api")
    echo = reply(200, b'{"token": "Bearer a-token-for-the-api"}', content_type="application/json")
    with serving(answering(reply(503), echo)) as server:
        run = client.start(asking(), {"url": server.url, "id": "a/b"}, runtime_env=OPENED)
        assert run.result(SECONDS) == {"answer": {"token": "Bearer [secret:http-api]"}}
        assert [each.path for each in server.asked] == ["/users/a%2Fb"] * 2
        assert {each.headers["authorization"] for each in server.asked} == {"Bearer a-token-for-the-api"}
        (key,) = {each.headers["idempotency-key"] for each in server.asked}
        assert key.startswith(run.id)
    assert "a-token-for-the-api" not in str(rows_of(run))


def test_what_may_not_be_reached_fails_at_once(client: Client) -> None:
    client.admin.put_secret("http-api", value="a-token-for-the-api")
    with serving(answering(reply(200))) as server:
        run = client.start(asking(), {"url": server.url, "id": "a"})
        with pytest.raises(RunFailedError, match="no public address") as failed:
            run.result(SECONDS)
        assert failed.value.error is not None
        assert failed.value.error["type"] == "HttpRefused"
        assert len(of_type(rows_of(run), "task.dispatched")) == 1
        assert server.asked == []
