"""The administration of a workspace over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from wonder_ray.errors import WonderError
from wonder_ray.remote.connection import Connection, segment
from wonder_ray.resources.access_records import ApiKeyRecord, NewApiKey, SecretRecord
from wonder_ray.resources.records import ProjectRecord

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
GRACE_S: Final = 24 * 3600.0
_WORKSPACE: Final = "a client over HTTP administers the workspace of its API key: connect with `workspace=` for another"


class RemoteAdministration:
    """The same methods as of `Client.admin` on Ray, for one workspace: that of the connection."""

    def __init__(self, api: Connection) -> None:
        self._api = api

    def list_api_keys(self, **where: Any) -> list[ApiKeyRecord]:
        """The API keys of the workspace, oldest first."""
        self._check(where)
        return _records(self._api.get("/v1/keys"), ApiKeyRecord)

    def create_api_key(self, name: str, scopes: tuple[str, ...], **options: Any) -> NewApiKey:
        """A new API key for the workspace; its `token` is never shown again. Not repeated where it may have been made."""
        self._check(options)
        given = {option: value for option, value in options.items() if option != "workspace_id"}
        told = self._api.post("/v1/keys", {"name": name, "scopes": list(scopes), **given}, repeatable=False)
        return _made(told)

    def rotate_api_key(self, key_id: str, *, grace_s: float = GRACE_S) -> NewApiKey:
        """A new token for an API key; the old one stays good for `grace_s` seconds."""
        return _made(self._api.post(f"/v1/keys/{segment(key_id)}/rotate", {"grace_s": grace_s}, repeatable=False))

    def revoke_api_key(self, key_id: str) -> ApiKeyRecord:
        """End an API key at once."""
        return msgspec.convert(self._api.post(f"/v1/keys/{segment(key_id)}/revoke"), ApiKeyRecord)

    def list_secrets(self, **where: Any) -> list[SecretRecord]:
        """The secrets of the workspace, without their values."""
        self._check(where)
        return _records(self._api.get("/v1/secrets"), SecretRecord)

    def put_secret(self, name: str, **what: Any) -> SecretRecord:
        """Make a secret, or change it: exactly one of `value`, `env` and `file` is given."""
        self._check(what)
        given = {option: value for option, value in what.items() if option != "workspace_id"}
        return msgspec.convert(self._api.post(f"/v1/secrets/{segment(name)}", given, method="PUT"), SecretRecord)

    def delete_secret(self, name: str, **where: Any) -> None:
        """Remove a secret."""
        self._check(where)
        self._api.post(f"/v1/secrets/{segment(name)}", method="DELETE", repeatable=False)

    def list_projects(self, **where: Any) -> list[ProjectRecord]:
        """The projects of the workspace, by name."""
        self._check(where)
        return _records(self._api.get("/v1/projects"), ProjectRecord)

    def create_project(self, project_id: str, *, description: str = "", **where: Any) -> ProjectRecord:
        """A new project."""
        self._check(where)
        body = {"name": project_id, "description": description}
        return msgspec.convert(self._api.post("/v1/projects", body, repeatable=False), ProjectRecord)

    def delete_project(self, project_id: str, **where: Any) -> None:
        """Remove a project without runs."""
        self._check(where)
        self._api.post(f"/v1/projects/{segment(project_id)}", method="DELETE", repeatable=False)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        raise WonderError(f"{name.replace('_', ' ')}: not over HTTP; do it where the storage folder is, or with --address")

    def _check(self, options: dict[str, Any]) -> None:
        wanted = options.get("workspace_id", self._api.workspace or "default")
        if wanted not in {self._api.workspace or "default", "default"}:
            raise WonderError(_WORKSPACE)


def _made(told: dict[str, Any]) -> NewApiKey:
    token = told.pop("token")
    return NewApiKey(record=msgspec.convert(told, ApiKeyRecord), token=token)


def _records(told: dict[str, Any], kind: type[T]) -> list[T]:
    return [msgspec.convert(each, kind) for each in told["items"]]
