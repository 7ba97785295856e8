"""The administration of one workspace over HTTP: its projects, API keys and secrets. Workspaces are made where the storage is."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from wonder_ray.errors import NotFoundError
from wonder_ray.http import models
from wonder_ray.http.access import Administer, Caller, ReadSecrets, WriteSecrets
from wonder_ray.resources.access_records import Scope

router = APIRouter(prefix="/v1", tags=["administration"])
KeyId = Annotated[str, Path(max_length=64, examples=["0f0f0f0f0f0f0f0f"])]
Name = Annotated[str, Path(max_length=128, examples=["openai"])]
_SECONDS_MAX = 10 * 365 * 24 * 3600.0


class KeyBody(BaseModel):
    """What API key is wanted; it is good for this workspace alone."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[models.Name, Field(examples=["ci"])]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=16, examples=[["runs:read"]])]
    expires_us: Annotated[int | None, Field(ge=0, le=2**62, description="Microseconds since 1970; by default never.")] = None
    rate_per_s: Annotated[float | None, Field(gt=0, le=1e6)] = None
    burst: Annotated[float | None, Field(ge=1, le=1e6)] = None


class RotateBody(BaseModel):
    """How long the old one stays good."""

    model_config = ConfigDict(extra="forbid")
    grace_s: Annotated[float, Field(ge=0, le=_SECONDS_MAX)] = 24 * 3600.0


class SecretBody(BaseModel):
    """Exactly one of `value`, `env` and `file`."""

    model_config = ConfigDict(extra="forbid")
    value: Annotated[str | None, Field(max_length=65_536, examples=["sk-..."])] = None
    env: Annotated[str | None, Field(max_length=256)] = None
    file: Annotated[str | None, Field(max_length=1_024)] = None
    description: Annotated[str, Field(max_length=1_000)] = ""


class ProjectBody(BaseModel):
    """What project is wanted."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[models.Name, Field(examples=["search"])]
    description: Annotated[str, Field(max_length=1_000)] = ""


@router.get("/keys", summary="List API keys", response_model=models.Items)
def list_keys(caller: Administer) -> dict[str, Any]:
    """Those of the workspace, oldest first; the keys themselves are known to nobody."""
    return _items(caller.backend.call("resources", "list_api_keys", workspace_id=caller.workspace_id))


@router.post("/keys", status_code=201, summary="Make an API key")
def create_key(caller: Administer, body: KeyBody) -> dict[str, Any]:
    """Its `token` is shown this once."""
    options = body.model_dump(exclude={"name", "scopes"})
    return _made(
        caller.backend.call(
            "resources", "create_api_key", body.name, tuple(body.scopes), workspace_id=caller.workspace_id, **options
        )
    )


@router.post("/keys/{key_id}/rotate", summary="Rotate an API key")
def rotate_key(caller: Administer, key_id: KeyId, body: RotateBody) -> dict[str, Any]:
    """A new token of the same id, shown this once."""
    _need_key(caller, key_id)
    return _made(caller.backend.call("resources", "rotate_api_key", key_id, grace_s=body.grace_s))


@router.post("/keys/{key_id}/revoke", summary="Revoke an API key")
def revoke_key(caller: Administer, key_id: KeyId) -> dict[str, Any]:
    """It ends at once."""
    _need_key(caller, key_id)
    return _plain(caller.backend.call("resources", "revoke_api_key", key_id))


@router.get("/secrets", summary="List secrets", response_model=models.Items)
def list_secrets(caller: ReadSecrets) -> dict[str, Any]:
    """Never their values."""
    return _items(caller.backend.call("resources", "list_secrets", workspace_id=caller.workspace_id))


@router.put("/secrets/{name}", summary="Set a secret")
def put_secret(caller: WriteSecrets, name: Name, body: SecretBody) -> dict[str, Any]:
    """Make it, or change it."""
    return _plain(caller.backend.call("resources", "put_secret", name, workspace_id=caller.workspace_id, **body.model_dump()))


@router.delete("/secrets/{name}", summary="Remove a secret")
def delete_secret(caller: WriteSecrets, name: Name) -> dict[str, Any]:
    """Runs that ask for it fail from now on."""
    caller.backend.call("resources", "delete_secret", name, workspace_id=caller.workspace_id)
    return {"ok": True}


@router.get("/projects", summary="List projects", response_model=models.Items)
def list_projects(caller: Administer) -> dict[str, Any]:
    """Those of the workspace, by name."""
    return _items(caller.backend.call("resources", "list_projects", workspace_id=caller.workspace_id))


@router.post("/projects", status_code=201, summary="Make a project")
def create_project(caller: Administer, body: ProjectBody) -> dict[str, Any]:
    """A part of the workspace that runs can be assigned to."""
    return _plain(
        caller.backend.call(
            "resources", "create_project", body.name, workspace_id=caller.workspace_id, description=body.description
        )
    )


@router.delete("/projects/{name}", summary="Remove a project")
def delete_project(caller: Administer, name: Name) -> dict[str, Any]:
    """One without runs."""
    caller.backend.call("resources", "delete_project", name, workspace_id=caller.workspace_id)
    return {"ok": True}


def _need_key(caller: Caller, key_id: str) -> None:
    """Raise where it is another workspace's, as where there is none."""
    found = caller.backend.call("resources", "get_api_key", key_id)
    if found.workspace_id != caller.workspace_id:
        raise NotFoundError("API key", f"there is no API key {key_id[:40]!r}: see the list of keys")


def _made(made: Any) -> dict[str, Any]:
    return _plain(made.record) | {"token": made.token}


def _plain(record: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


def _items(records: list[Any]) -> dict[str, Any]:
    return {"items": [_plain(record) for record in records]}
