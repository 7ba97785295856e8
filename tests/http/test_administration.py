"""Who may administer what: a key of one workspace that one alone, a key for all of them everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.http.world import Api


def names(answer: Any, what: str) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each[what] for each in answer.json()["items"]]


@pytest.fixture
def everywhere(api: Api) -> str:
    """A key for all workspaces."""
    return api.new_key("admin", workspace=None)


def test_workspaces_are_made_changed_and_removed(api: Api, everywhere: str) -> None:
    made = api.call("POST", "/v1/workspaces", {"name": "team", "description": "ours"}, key=everywhere)
    assert (made.status_code, made.json()["workspace_id"]) == (201, "team")
    assert api.call("POST", "/v1/workspaces", {"name": "team"}, key=everywhere).status_code == 409
    limited = api.call("PATCH", "/v1/workspaces/team", {"rate_per_s": 5}, key=everywhere).json()
    assert (limited["rate_per_s"], limited["description"]) == (5, "ours")
    assert api.call("PATCH", "/v1/workspaces/team", {"unlimited": True}, key=everywhere).json()["rate_per_s"] is None
    assert api.call("PATCH", "/v1/workspaces/team", {"unlimited": True, "rate_per_s": 1}, key=everywhere).status_code == 422
    assert names(api.call("GET", "/v1/workspaces", key=everywhere), "workspace_id") == ["default", "other", "team"]
    assert names(api.call("GET", "/v1/projects", key=everywhere, Wonder_Workspace="team"), "project_id") == ["default"]
    assert api.call("DELETE", "/v1/workspaces/team", key=everywhere).status_code == 200
    assert api.call("GET", "/v1/workspaces/team", key=everywhere).status_code == 404
    assert api.call("DELETE", "/v1/workspaces/default", key=everywhere).status_code == 409


def test_a_key_of_one_workspace_sees_that_one_alone(api: Api, everywhere: str) -> None:
    theirs = api.new_key("admin", workspace="other")
    assert names(api.call("GET", "/v1/workspaces", key=theirs), "workspace_id") == ["other"]
    assert names(api.call("GET", "/v1/workspaces", key=everywhere, Wonder_Workspace="other"), "workspace_id") == [
        "default",
        "other",
    ]
    assert api.call("GET", "/v1/workspaces/other", key=theirs).status_code == 200
    missing, hidden = (api.call("GET", f"/v1/workspaces/{name}", key=theirs) for name in ("nowhere", "default"))
    assert missing.status_code == hidden.status_code == 403
    assert missing.json()["detail"].replace("nowhere", "default") == hidden.json()["detail"]


def test_projects_are_made_shown_changed_and_removed(api: Api) -> None:
    assert api.call("POST", "/v1/projects", {"name": "search"}).status_code == 201
    assert api.call("PATCH", "/v1/projects/search", {"description": "finds"}).json()["description"] == "finds"
    assert api.call("GET", "/v1/projects/search").json()["description"] == "finds"
    assert api.call("GET", "/v1/projects/search", key=api.new_key("admin", workspace="other")).status_code == 404
    assert names(api.call("GET", "/v1/projects"), "project_id") == ["default", "search"]
    assert api.call("DELETE", "/v1/projects/search").status_code == 200


def test_only_a_key_for_all_workspaces_administers_such_keys(api: Api, everywhere: str) -> None:
    asked = {"name": "root", "scopes": ["runs:read"], "all_workspaces": True}
    assert api.call("POST", "/v1/keys", asked).status_code == 403
    assert api.call("GET", "/v1/keys?all_workspaces=true").status_code == 403
    made = api.call("POST", "/v1/keys", asked, key=everywhere)
    assert (made.status_code, made.json()["workspace_id"]) == (201, None)
    assert set(names(api.call("GET", "/v1/keys?all_workspaces=true", key=everywhere), "name")) == {"test", "root"}
    path = f"/v1/keys/{made.json()['key_id']}"
    for method, below, body in (("GET", "", None), ("POST", "/rotate", {}), ("POST", "/revoke", None)):
        assert api.call(method, path + below, body).status_code == 404
        assert api.call(method, path + below, body, key=everywhere, Wonder_Workspace="other").status_code == 200
    mine = api.call("GET", "/v1/keys").json()["items"][0]["key_id"]
    assert api.call("GET", f"/v1/keys/{mine}", key=everywhere).status_code == 200
    assert api.call("GET", f"/v1/keys/{mine}", key=everywhere, Wonder_Workspace="other").status_code == 404


def test_a_key_for_all_workspaces_that_names_none_makes_no_key_by_accident(api: Api, everywhere: str) -> None:
    refused = api.call("POST", "/v1/keys", {"name": "x", "scopes": ["admin"]}, key=everywhere)
    assert refused.status_code == 403
    assert "say which one is meant" in refused.json()["detail"]
    assert [each.name for each in api.resources.list_api_keys(workspace_id=None)] == ["test"]


def test_a_secret_is_written_and_never_read(api: Api) -> None:
    put = api.call("PUT", "/v1/secrets/openai", {"value": "canary-71c4-value", "description": "paid"})
    shown = api.call("GET", "/v1/secrets/openai")
    assert (put.status_code, shown.json()["version"], shown.json()["description"]) == (200, 1, "paid")
    assert "canary" not in put.text + shown.text + api.call("GET", "/v1/secrets").text
    assert api.call("GET", "/v1/secrets/openai", key=api.new_key("admin", workspace="other")).status_code == 404
    assert api.call("DELETE", "/v1/secrets/openai").status_code == 200
    assert api.call("GET", "/v1/secrets/openai").status_code == 404
