"""Every endpoint against every kind of caller, generated from the application's own list of routes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.http.world import Api
from wonder_ray.errors import ConflictError
from wonder_ray.http.app import create_app
from wonder_ray.resources.access_records import SCOPES

if TYPE_CHECKING:
    from pathlib import Path

OPEN = {"/health", "/ready", "/openapi.json"}
BODIES: dict[str, Any] = {
    "/v1/runs": {"workflow": "approval", "input": {"amount": 1}},
    "/v1/definitions": {"name": "x", "nodes": [{"id": "ask", "kind": "gate"}], "start": ["ask"]},
    "/v1/runs/{run}/cancel": {},
    "/v1/runs/{run}/pause": {},
    "/v1/runs/{run}/resume": None,
    "/v1/runs/{run}/signals": {"name": "paid"},
    "/v1/runs/{run}/answers": {"gate": "ask", "answer": 1},
    "/v1/runs/{run}/updates": {"changes": {"state.x": 1}},
    "/v1/runs/{run}/forks": {},
    "/v1/runs/{run}/query": {"expression": "1"},
    "/v1/runs/{run}/replay": None,
    "/v1/runs/{run}/restarts": {"node": "ask"},
    "/v1/runs/{run}/groups/complete": {"group": "pages"},
    "/v1/runs/{run}/groups/close": {"group": "pages"},
    "/v1/runs/{run}/groups/members": {"group": "pages", "items": [1]},
    "/v1/keys": {"name": "x", "scopes": ["runs:read"]},
    "/v1/keys/{key_id}/rotate": {},
    "/v1/keys/{key_id}/revoke": None,
    "/v1/secrets/{name}": {"value": "hidden away"},
    "/v1/projects": {"name": "x"},
    "/v1/projects/{name}": {"description": "x"},
    "/v1/sql": {"query": "SELECT 1 AS one"},
    "/v1/workspaces": {"name": "x"},
    "/v1/workspaces/{name}": {"description": "x"},
}
WITH_BODY = {"POST", "PUT", "PATCH"}
REMOVE_WORKSPACE = ("DELETE", "/v1/workspaces/{name}")
OF_RUNS = {REMOVE_WORKSPACE, ("DELETE", "/v1/definitions/{name}")}
"""Runs keep what they are in."""
EVERYWHERE = {
    ("POST", "/v1/sql"),
    ("POST", "/v1/workspaces"),
    ("PATCH", "/v1/workspaces/{name}"),
    REMOVE_WORKSPACE,
}
"""What only an API key for all workspaces may ask for."""
NAME = {"/v1/reports/{name}": "cost", "/v1/workspaces/{name}": "default"}
UNDER_GROUPS = "/v1/runs/{run}/groups/"


def endpoints() -> list[tuple[str, str]]:
    document = create_app(None, None).openapi()  # type: ignore[arg-type] # neither is used for that
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods if path not in OPEN]


ENDPOINTS = endpoints()


def scope_of(method: str, path: str) -> str:
    last = path.rpartition("/")[2]
    if path.startswith(("/v1/keys", "/v1/projects", "/v1/workspaces")):
        return "admin"
    if path.startswith("/v1/secrets"):
        return "secrets:read" if method == "GET" else "secrets:write"
    if path.startswith("/v1/definitions"):
        return "definitions:read" if method == "GET" else "definitions:write"
    if last in {"events", "trace", "stream", "sql", "replay"} or path.startswith("/v1/reports"):
        return "events:read"
    if last == "logs":  # of a run, or across runs
        return "logs:read"
    return "runs:write" if method == "POST" and last != "query" else "runs:read"


def workspace_of(endpoint: tuple[str, str]) -> str | None:
    """Whose API key may ask."""
    return None if endpoint in EVERYWHERE else "default"


def ids(endpoint: object) -> str:
    return " ".join(endpoint) if isinstance(endpoint, tuple) else str(endpoint)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Api, str, str]:
    """The API, a run of `default`, a run of `other`."""
    api = Api(tmp_path_factory.mktemp("storage"))
    return api, api.start(), api.start("other")


def ask(api: Api, endpoint: tuple[str, str], run: str, key: str, **headers: str) -> Any:
    method, path = endpoint
    body = BODIES.get(path) if method in WITH_BODY else None
    key_id = api.new_key("runs:read").split("_")[1] if "{key_id}" in path else ""
    return api.call(method, path.format(run=run, name=NAME.get(path, "approval"), key_id=key_id), body, key=key, **headers)


def refused(answer: Any, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_the_list_of_endpoints_is_whole() -> None:
    assert len(ENDPOINTS) == 48
    assert {path for method, path in ENDPOINTS if method in WITH_BODY} == set(BODIES)
    assert set(ENDPOINTS) >= EVERYWHERE


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=ids)
def test_no_key_is_refused(shared: tuple[Api, str, str], endpoint: tuple[str, str]) -> None:
    api, run, _ = shared
    answer = ask(api, endpoint, run, "")
    refused(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=ids)
def test_a_wrong_key_is_refused(shared: tuple[Api, str, str], endpoint: tuple[str, str]) -> None:
    api, run, _ = shared
    last = "0" if api.key[-1] != "0" else "1"
    for wrong in (api.key[:-1] + last, "wonder_" + "0" * 16 + "_" + "0" * 64, "x", "é"):
        refused(ask(api, endpoint, run, wrong), 401)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=ids)
def test_every_other_scope_together_is_refused(shared: tuple[Api, str, str], endpoint: tuple[str, str]) -> None:
    api, run, _ = shared
    others = [scope for scope in SCOPES if scope not in {"admin", scope_of(*endpoint)}]
    refused(ask(api, endpoint, run, api.new_key(*others, workspace=workspace_of(endpoint))), 403)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=ids)
def test_another_workspace_is_refused(shared: tuple[Api, str, str], endpoint: tuple[str, str]) -> None:
    api, run, _ = shared
    key = api.new_key("admin", workspace="other")
    refused(ask(api, endpoint, run, key, Wonder_Workspace="default"), 403)


@pytest.mark.parametrize("endpoint", sorted(EVERYWHERE), ids=ids)
def test_what_concerns_all_workspaces_is_refused_to_a_key_of_one(shared: tuple[Api, str, str], endpoint: tuple[str, str]) -> None:
    """However much it may do there, and whichever workspace it names."""
    api, run, _ = shared
    for headers in ({}, {"Wonder_Workspace": "default"}):
        answer = ask(api, endpoint, run, api.new_key(*SCOPES), **headers)
        refused(answer, 403)
        assert "--all-workspaces" in answer.json()["detail"]
    assert [each.workspace_id for each in api.resources.list_workspaces()] == ["default", "other"]


@pytest.mark.parametrize("endpoint", [each for each in ENDPOINTS if "{run}" in each[1]], ids=ids)
def test_a_run_of_another_workspace_is_unknown(shared: tuple[Api, str, str], endpoint: tuple[str, str]) -> None:
    """Named by its whole id, which the registry would find; nothing tells it from one that does not exist."""
    api, _, other = shared
    answer = ask(api, endpoint, other, api.key)
    refused(answer, 404)
    missing = "run_0192f0c1a2b3_0123456789abcdef"
    other_body, missing_body = answer.json(), ask(api, endpoint, missing, api.key).json()
    assert other_body["detail"].replace(other, "") == missing_body["detail"].replace(missing, "")
    assert other_body["type"] == missing_body["type"]
    assert [row["event_type"] for row in api.services.cores[other].rows].count("workflow.started") == 1
    assert api.services.cores[other].turns == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=ids)
def test_its_scope_alone_is_enough(shared: tuple[Api, str, str], endpoint: tuple[str, str]) -> None:
    api = shared[0]
    run = api.start()
    if endpoint[1].endswith("/stream"):
        api.call("POST", f"/v1/runs/{run}/cancel", {})
    if endpoint[0] == "DELETE":
        api.resources.put_secret("approval", value="hidden away")
        with suppress(ConflictError):
            api.resources.create_project("approval")
    answer = ask(api, endpoint, run, api.new_key(scope_of(*endpoint), workspace=workspace_of(endpoint)))
    # It has no groups and no history in files, and the workspace is not empty.
    no_history = {422} if endpoint[1].endswith("/replay") else set()
    refused_by_what_is_there = no_history | {409} if endpoint[1].startswith(UNDER_GROUPS) or endpoint in OF_RUNS else no_history
    assert answer.status_code in {200, 201, 202} | refused_by_what_is_there, answer.text


def test_a_key_for_all_workspaces_says_which(api: Api) -> None:
    run, other = api.start(), api.start("other")
    key = api.new_key("runs:read", workspace=None)
    assert api.call("GET", f"/v1/runs/{other}", key=key).status_code == 403
    assert api.call("GET", f"/v1/runs/{other}", key=key, Wonder_Workspace="other").status_code == 200
    assert api.call("GET", f"/v1/runs/{run}", key=key, Wonder_Workspace="other").status_code == 404
    assert api.call("GET", f"/v1/runs/{run}", key=key, Wonder_Workspace="nowhere").status_code == 404
    listed = api.call("GET", "/v1/runs", key=key, Wonder_Workspace="other").json()["runs"]
    assert [each["run_id"] for each in listed] == [other]


def test_keys_end_and_are_rotated(api: Api) -> None:
    made = api.resources.create_api_key("ci", ("runs:read",))
    rotated = api.resources.rotate_api_key(made.record.key_id, grace_s=0)
    assert api.call("GET", "/v1/runs", key=made.token).status_code == 401
    assert api.call("GET", "/v1/runs", key=rotated.token).status_code == 200
    api.resources.revoke_api_key(made.record.key_id)
    assert api.call("GET", "/v1/runs", key=rotated.token).status_code == 401


def test_rate_limits_hold_across_replicas(storage: Path) -> None:
    """Two applications with a connection each to one registry share what a key may use."""
    one, two = Api(storage), Api(storage)
    key = one.new_key("runs:read", rate_per_s=0.001, burst=3.0)
    statuses = [replica.call("GET", "/v1/runs", key=key).status_code for replica in (one, two, one, two, one)]
    assert statuses == [200, 200, 200, 429, 429]
    answer = one.call("GET", "/v1/runs", key=key)
    refused(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    one.clock.advance(seconds=1001)
    assert one.call("GET", "/v1/runs", key=key).status_code == 200
    assert len(one.logged("rate_limited")) + len(two.logged("rate_limited")) == 3


def test_refusals_are_logged_without_the_key(api: Api) -> None:
    api.call("GET", "/v1/runs", key="wonder_secret")
    api.call("GET", "/v1/runs", key=api.new_key("logs:read"))
    assert [kind for level, kind in api.log.kinds() if level == "warning"] == ["auth_failed", "access_denied"]
    assert "wonder_secret" not in repr(api.log.lines)
    assert [fields["status"] for fields in api.logged("request_received")] == [401, 403]


@pytest.mark.parametrize("key", ["", "wonder_" + "0" * 16 + "_" + "0" * 64])
def test_nothing_of_the_body_is_read_before_the_key_is_good(api: Api, key: str) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {key}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/runs", "headers": headers, "query_string": b""}
    asyncio.run(api.app(scope, receive, send))
    assert sent[0]["status"] == 401


def test_keys_of_another_workspace_can_neither_be_rotated_nor_revoked(api: Api) -> None:
    theirs = api.resources.create_api_key("theirs", ("runs:read",), workspace_id="other")
    for what, body in (("rotate", {}), ("revoke", None)):
        refused(api.call("POST", f"/v1/keys/{theirs.record.key_id}/{what}", body), 404)
    assert api.call("GET", "/v1/runs", key=theirs.token).status_code == 200
    made = api.call("POST", "/v1/keys", {"name": "mine", "scopes": ["runs:read"]}).json()
    assert api.call("GET", "/v1/runs", key=made["token"]).status_code == 200
    assert {each["name"] for each in api.call("GET", "/v1/keys").json()["items"]} == {"test", "mine"}
    assert api.call("POST", f"/v1/keys/{made['key_id']}/revoke").status_code == 200
    assert api.call("GET", "/v1/runs", key=made["token"]).status_code == 401


def test_a_run_id_of_another_workspace_tells_nothing(api: Api) -> None:
    other = api.start("other")
    answer = api.call("POST", "/v1/runs", {"workflow": "approval", "input": {"amount": 5}, "run_id": other})
    refused(answer, 409)
    assert "approval" not in answer.json()["detail"]
    assert "run_id" not in answer.json()
