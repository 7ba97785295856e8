"""Workspaces, projects, API keys and secrets over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from wonder_ray.errors import WonderError
from wonder_ray.remote.connection import Connection, segment
from wonder_ray.resources.access_records import ApiKeyRecord, NewApiKey, SecretRecord
from wonder_ray.resources.records import ProjectRecord, WorkspaceRecord

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
GRACE_S: Final = 24 * 3600.0
_OF_CONNECTION: Final = ""
"""Stands for the workspace of the connection; no workspace has that name."""


class RemoteAdministration:
    """The same methods as of `Client.admin` on Ray; without a `workspace_id` they mean the workspace of the connection.

    That is the one of the API key, unless the client was connected with another. What concerns all workspaces takes a key
    that is good for all of them.
    """

    def __init__(self, api: Connection) -> None:
        self._api = api

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        raise WonderError(f"{name.replace('_', ' ')}: not over HTTP; do it where the storage folder is, or with --address")

    # --- workspaces and projects -----------------------------------------------------------------------------------------

    def create_workspace(self, workspace_id: str, *, description: str = "") -> WorkspaceRecord:
        """A new workspace, with its project `default`."""
        body = {"name": workspace_id, "description": description}
        return msgspec.convert(self._api.post("/v1/workspaces", body, repeatable=False), WorkspaceRecord)

    def get_workspace(self, workspace_id: str) -> WorkspaceRecord:
        """A workspace."""
        return msgspec.convert(self._api.get(f"/v1/workspaces/{segment(workspace_id)}"), WorkspaceRecord)

    def list_workspaces(self) -> list[WorkspaceRecord]:
        """All workspaces, by name; with an API key of one workspace, that one."""
        return _records(self._api.get("/v1/workspaces"), WorkspaceRecord)

    def update_workspace(
        self,
        workspace_id: str,
        *,
        description: str | None = None,
        rate_per_s: float | None = None,
        burst: float | None = None,
        unlimited: bool = False,
    ) -> WorkspaceRecord:
        """Change what is given."""
        body = {"description": description, "rate_per_s": rate_per_s, "burst": burst, "unlimited": unlimited}
        told = self._api.post(f"/v1/workspaces/{segment(workspace_id)}", body, method="PATCH")
        return msgspec.convert(told, WorkspaceRecord)

    def delete_workspace(self, workspace_id: str) -> None:
        """Remove a workspace that holds no run, definition, secret, or API key that is still good."""
        self._api.post(f"/v1/workspaces/{segment(workspace_id)}", method="DELETE", repeatable=False)

    def create_project(self, project_id: str, *, workspace_id: str = _OF_CONNECTION, description: str = "") -> ProjectRecord:
        """A new project."""
        body = {"name": project_id, "description": description}
        return msgspec.convert(self._in(workspace_id).post("/v1/projects", body, repeatable=False), ProjectRecord)

    def get_project(self, project_id: str, *, workspace_id: str = _OF_CONNECTION) -> ProjectRecord:
        """A project."""
        return msgspec.convert(self._in(workspace_id).get(f"/v1/projects/{segment(project_id)}"), ProjectRecord)

    def list_projects(self, *, workspace_id: str = _OF_CONNECTION) -> list[ProjectRecord]:
        """The projects of a workspace, by name."""
        return _records(self._in(workspace_id).get("/v1/projects"), ProjectRecord)

    def update_project(self, project_id: str, *, workspace_id: str = _OF_CONNECTION, description: str) -> ProjectRecord:
        """Change its description."""
        path, body = f"/v1/projects/{segment(project_id)}", {"description": description}
        return msgspec.convert(self._in(workspace_id).post(path, body, method="PATCH"), ProjectRecord)

    def delete_project(self, project_id: str, *, workspace_id: str = _OF_CONNECTION) -> None:
        """Remove a project without runs."""
        self._in(workspace_id).post(f"/v1/projects/{segment(project_id)}", method="DELETE", repeatable=False)

    # --- definitions -----------------------------------------------------------------------------------------------------

    def delete_definition(self, name: str, *, version: str | None = None, workspace_id: str = _OF_CONNECTION) -> list[str]:
        """Remove a version of a workflow, or all of them, where no run has it; which versions they were."""
        which = "" if version is None else f"?version={segment(version)}"
        told = self._in(workspace_id).post(f"/v1/definitions/{segment(name)}{which}", method="DELETE", repeatable=False)
        return list(told["versions"])

    # --- API keys --------------------------------------------------------------------------------------------------------

    def create_api_key(
        self,
        name: str,
        scopes: tuple[str, ...],
        *,
        workspace_id: str | None = _OF_CONNECTION,
        expires_us: int | None = None,
        rate_per_s: float | None = None,
        burst: float | None = None,
    ) -> NewApiKey:
        """A new API key; its `token` is never shown again. Not repeated where it may have been made."""
        body = {
            "name": name,
            "scopes": list(scopes),
            "expires_us": expires_us,
            "rate_per_s": rate_per_s,
            "burst": burst,
            "all_workspaces": workspace_id is None,
        }
        return _made(self._in(workspace_id).post("/v1/keys", body, repeatable=False))

    def rotate_api_key(self, key_id: str, *, grace_s: float = GRACE_S) -> NewApiKey:
        """A new token for an API key; the old one stays good for `grace_s` seconds."""
        return _made(self._api.post(f"/v1/keys/{segment(key_id)}/rotate", {"grace_s": grace_s}, repeatable=False))

    def revoke_api_key(self, key_id: str) -> ApiKeyRecord:
        """End an API key at once."""
        return msgspec.convert(self._api.post(f"/v1/keys/{segment(key_id)}/revoke"), ApiKeyRecord)

    def get_api_key(self, key_id: str) -> ApiKeyRecord:
        """An API key, without its token."""
        return msgspec.convert(self._api.get(f"/v1/keys/{segment(key_id)}"), ApiKeyRecord)

    def list_api_keys(self, *, workspace_id: str | None = _OF_CONNECTION) -> list[ApiKeyRecord]:
        """The API keys of a workspace, or (None) those that are good for all; oldest first."""
        told = self._in(workspace_id).get("/v1/keys", all_workspaces=True if workspace_id is None else None)
        return _records(told, ApiKeyRecord)

    # --- secrets ---------------------------------------------------------------------------------------------------------

    def put_secret(
        self,
        name: str,
        *,
        value: str | None = None,
        env: str | None = None,
        file: str | None = None,
        workspace_id: str = _OF_CONNECTION,
        description: str = "",
    ) -> SecretRecord:
        """Make a secret, or change it: exactly one of `value`, `env` and `file` is given."""
        body = {"value": value, "env": env, "file": file, "description": description}
        return msgspec.convert(self._in(workspace_id).post(f"/v1/secrets/{segment(name)}", body, method="PUT"), SecretRecord)

    def get_secret(self, name: str, *, workspace_id: str = _OF_CONNECTION) -> SecretRecord:
        """A secret, without its value."""
        return msgspec.convert(self._in(workspace_id).get(f"/v1/secrets/{segment(name)}"), SecretRecord)

    def list_secrets(self, *, workspace_id: str = _OF_CONNECTION) -> list[SecretRecord]:
        """The secrets of a workspace, without their values, by name."""
        return _records(self._in(workspace_id).get("/v1/secrets"), SecretRecord)

    def delete_secret(self, name: str, *, workspace_id: str = _OF_CONNECTION) -> None:
        """Remove a secret."""
        self._in(workspace_id).post(f"/v1/secrets/{segment(name)}", method="DELETE", repeatable=False)

    def _in(self, workspace_id: str | None) -> Connection:
        return self._api.in_workspace(workspace_id) if workspace_id else self._api


def _made(told: dict[str, Any]) -> NewApiKey:
    token = told.pop("token")
    return NewApiKey(record=msgspec.convert(told, ApiKeyRecord), token=token)


def _records(told: dict[str, Any], kind: type[T]) -> list[T]:
    return [msgspec.convert(each, kind) for each in told["items"]]
