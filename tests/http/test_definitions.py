"""Definitions over HTTP: code never arrives in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.http.world import BUNDLE, approval
from wonder_ray import actions
from wonder_ray.http.definitions import READY as READY_ACTIONS
from wonder_ray.values import canonical

if TYPE_CHECKING:
    from tests.http.world import Api


def work(action: str = "shop:charge", bundle: str | None = BUNDLE, **fields: Any) -> dict[str, Any]:
    node = {"id": "work", "kind": "action", "action": action} | fields
    return {"name": "shop", "nodes": [node], "start": ["work"]} | ({} if bundle is None else {"bundle": bundle})


def test_a_definition_is_registered_and_shown(api: Api) -> None:
    made = api.call("POST", "/v1/definitions", work())
    assert made.status_code == 201, made.text
    shown = api.call("GET", "/v1/definitions/shop").json()
    assert (shown["version"], shown["bundle"]) == (made.json()["version"], BUNDLE)
    assert api.call("POST", "/v1/definitions", shown["definition"]).json() == made.json()
    listed = api.call("GET", "/v1/definitions?name=shop").json()["definitions"]
    assert [each["version"] for each in listed] == [made.json()["version"]]
    assert api.call("GET", "/v1/definitions/shop", key=api.new_key("admin", workspace="other")).status_code == 404


def test_a_definition_is_removed_while_no_run_has_it(api: Api) -> None:
    made = api.call("POST", "/v1/definitions", work()).json()
    assert api.call("DELETE", "/v1/definitions/shop", key=api.new_key("admin", workspace="other")).status_code == 404
    assert api.call("DELETE", f"/v1/definitions/shop?version={'0' * 64}").status_code == 404
    removed = api.call("DELETE", f"/v1/definitions/shop?version={made['version']}")
    assert (removed.status_code, removed.json()) == (200, {"name": "shop", "versions": [made["version"]]})
    assert api.call("GET", "/v1/definitions/shop").status_code == 404
    assert api.call("POST", "/v1/runs", {"workflow": "approval", "input": {"amount": 5}}).status_code in {200, 201, 202}
    assert api.call("DELETE", "/v1/definitions/approval").status_code == 409
    assert api.call("GET", "/v1/definitions/approval").status_code == 200


def test_one_without_code_is_registered(api: Api) -> None:
    assert api.call("POST", "/v1/definitions", approval().to_json()).status_code == 201


@pytest.mark.parametrize(
    "definition",
    [
        work("os:system"),
        work("os:system", bundle=None),
        work("subprocess:run", bundle=None),
        work("shop:os.system"),
        work("shop:other"),
        work("wonder_ray.examples.hello:hello", bundle=None),
        work("pickled"),
        work(undo={"action": "os:system", "input": {}}),
        work(resources={"runtime_env": {"pip": ["x"]}}),
        work(resources={"runtime_env": {"env_vars": {"PYTHONPATH": "x"}}}),
        work(undo={"action": "shop:charge", "resources": {"runtime_env": {"py_modules": ["x"]}}}),
        {
            "name": "shop",
            "bundle": BUNDLE,
            "nodes": [
                {
                    "id": "work",
                    "kind": "steps",
                    "steps": [{"name": "a", "action": "shop:charge"}, {"name": "b", "action": "os:system"}],
                }
            ],
            "start": ["work"],
        },
    ],
    ids=range(12),
)
def test_code_that_no_registered_bundle_announces_is_refused(api: Api, definition: dict[str, Any]) -> None:
    before = api.resources.list_definitions().definitions
    answer = api.call("POST", "/v1/definitions", definition)
    assert answer.status_code == 422, answer.text
    assert "over HTTP" in answer.json()["detail"]
    assert api.resources.list_definitions().definitions == before


READY = "wonder_ray.actions:http_request"


def test_the_ready_actions_are_those_of_the_package() -> None:
    assert {f"wonder_ray.actions:{name}" for name in actions.__all__} == READY_ACTIONS == {READY}


@pytest.mark.parametrize("bundle", [BUNDLE, None])
def test_a_ready_action_needs_no_code(api: Api, bundle: str | None) -> None:
    key = api.new_key("definitions:write")
    asked = {"url": "'https://example.com/'", "json": "input"}
    assert api.call("POST", "/v1/definitions", work(READY, bundle, input=asked), key=key).status_code == 201
    undone = {"action": READY, "input": asked}
    assert api.call("POST", "/v1/definitions", work("shop:charge", BUNDLE, undo=undone), key=key).status_code == 201


@pytest.mark.parametrize("action", ["wonder_ray.actions:fetch", "wonder_ray.actions.exchanges:fetch"])
def test_what_else_is_in_its_module_is_no_ready_action(api: Api, action: str) -> None:
    assert api.call("POST", "/v1/definitions", work(action, None)).status_code == 422


def test_the_networks_that_a_ready_action_may_reach_are_not_the_definitions_to_say(api: Api) -> None:
    environment = {"runtime_env": {"env_vars": {"WONDER_HTTP_NETWORKS": "127.0.0.0/8"}}}
    assert api.call("POST", "/v1/definitions", work(READY, None, resources=environment)).status_code == 422


def test_a_secret_is_sent_anywhere_only_by_those_who_may_do_everything(api: Api) -> None:
    asked = {"url": "'https://example.com/'", "token": "'secret://stripe'"}
    steps = {"id": "s", "kind": "steps", "steps": [{"name": "a", "action": READY, "input": asked}]}
    hidden = [
        work(READY, None, input=asked),
        work("shop:charge", undo={"action": READY, "input": asked}),
        {"name": "shop", "nodes": [steps], "start": ["s"]},
    ]
    writer = api.new_key("definitions:write", "runs:write", "secrets:read")
    for definition in hidden:
        refused = api.call("POST", "/v1/definitions", definition, key=writer)
        assert (refused.status_code, "needs an API key" in refused.json()["detail"]) == (403, True), refused.text
        assert api.call("POST", "/v1/definitions", definition).status_code == 201


@pytest.mark.parametrize("bundle", ["cd" * 32, "../../etc/passwd"])
def test_a_bundle_that_is_not_registered_here_is_refused(api: Api, bundle: str) -> None:
    assert api.call("POST", "/v1/definitions", work(bundle=bundle)).status_code in {404, 422}


@pytest.mark.parametrize("body", [{}, {"name": "x", "nodes": 3}, {"name": "x", "nodes": [], "start": []}, [1], "x"])
def test_what_is_no_definition_is_refused(api: Api, body: object) -> None:
    assert api.call("POST", "/v1/definitions", body).status_code == 422


def test_a_definition_that_is_unknown(api: Api) -> None:
    assert api.call("GET", "/v1/definitions/nobody").status_code == 404
    assert api.call("GET", "/v1/definitions/approval?version=0").status_code == 404


def test_the_registry_has_what_was_sent(api: Api) -> None:
    made = api.call("POST", "/v1/definitions", approval().to_json()).json()
    assert api.resources.get_definition("approval", made["version"]).definition == canonical(approval().to_json())
