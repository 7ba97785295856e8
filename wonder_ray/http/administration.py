"""The administration of API keys and secrets over HTTP: those of one workspace, and with a key for all of them those for all."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from wonder_ray.errors import ForbiddenError, NotFoundError
from wonder_ray.http import models
from wonder_ray.http.access import AdministerAny, ReadSecrets, WideCaller, WriteSecrets
from wonder_ray.resources.access_records import ApiKeyRecord, NewApiKey, Scope

router = APIRouter(prefix="/v1", tags=["administration"])
KeyId = Annotated[str, Path(max_length=64, examples=["0f0f0f0f0f0f0f0f"])]
Name = Annotated[str, Path(max_length=128, examples=["openai"])]
_SECONDS_MAX = 10 * 365 * 24 * 3600.0


class KeyBody(BaseModel):
    """What API key is wanted; it is good for one workspace alone, or for all of them."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[models.Name, Field(examples=["ci"])]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=16, examples=[["runs:read"]])]
    expires_us: Annotated[int | None, Field(ge=0, le=2**62, description="Microseconds since 1970; by default never.")] = None
    rate_per_s: Annotated[float | None, Field(ge=0, le=1e6)] = None
    burst: Annotated[float | None, Field(ge=0, le=1e6)] = None
    all_workspaces: Annotated[bool, Field(description="Which only a key for all workspaces may ask for.")] = False


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


@router.get("/keys", summary="List API keys", response_model=models.Items)
def list_keys(
    caller: AdministerAny,
    all_workspaces: Annotated[bool, Query(description="Those that are good for all workspaces, and no others.")] = False,  # noqa: FBT002 - a query
) -> dict[str, Any]:
    """Those of the workspace, oldest first; the keys themselves are known to nobody."""
    where = _whose(caller, all_workspaces=all_workspaces)
    return items(caller.backend.call("resources", "list_api_keys", workspace_id=where))


@router.post("/keys", status_code=201, summary="Make an API key")
def create_key(caller: AdministerAny, body: KeyBody) -> dict[str, Any]:
    """Its `token` is shown this once."""
    where = _whose(caller, all_workspaces=body.all_workspaces)
    options = body.model_dump(exclude={"name", "scopes", "all_workspaces"})
    return _made(caller.backend.call("resources", "create_api_key", body.name, tuple(body.scopes), workspace_id=where, **options))


@router.get("/keys/{key_id}", summary="Show an API key")
def show_key(caller: AdministerAny, key_id: KeyId) -> dict[str, Any]:
    """Not its token."""
    return plain(_need_key(caller, key_id))


@router.post("/keys/{key_id}/rotate", summary="Rotate an API key")
def rotate_key(caller: AdministerAny, key_id: KeyId, body: RotateBody) -> dict[str, Any]:
    """A new token of the same id, shown this once."""
    _need_key(caller, key_id)
    return _made(caller.backend.call("resources", "rotate_api_key", key_id, grace_s=body.grace_s))


@router.post("/keys/{key_id}/revoke", summary="Revoke an API key")
def revoke_key(caller: AdministerAny, key_id: KeyId) -> dict[str, Any]:
    """It ends at once."""
    _need_key(caller, key_id)
    return plain(caller.backend.call("resources", "revoke_api_key", key_id))


@router.get("/secrets", summary="List secrets", response_model=models.Items)
def list_secrets(caller: ReadSecrets) -> dict[str, Any]:
    """Never their values."""
    return items(caller.backend.call("resources", "list_secrets", workspace_id=caller.workspace_id))


@router.get("/secrets/{name}", summary="Show a secret")
def show_secret(caller: ReadSecrets, name: Name) -> dict[str, Any]:
    """Not its value."""
    return plain(caller.backend.call("resources", "get_secret", name, workspace_id=caller.workspace_id))


@router.put("/secrets/{name}", summary="Set a secret")
def put_secret(caller: WriteSecrets, name: Name, body: SecretBody) -> dict[str, Any]:
    """Make it, or change it."""
    return plain(caller.backend.call("resources", "put_secret", name, workspace_id=caller.workspace_id, **body.model_dump()))


@router.delete("/secrets/{name}", summary="Remove a secret")
def delete_secret(caller: WriteSecrets, name: Name) -> dict[str, Any]:
    """Runs that ask for it fail from now on."""
    caller.backend.call("resources", "delete_secret", name, workspace_id=caller.workspace_id)
    return {"ok": True}


def _whose(caller: WideCaller, *, all_workspaces: bool) -> str | None:
    """The workspace of the keys that are meant; None for those that are good for all."""
    if not all_workspaces:
        return caller.in_one().workspace_id
    if not caller.all_workspaces:
        raise ForbiddenError("API keys for all workspaces are administered with such a key: this one is for one workspace")
    return None


def _need_key(caller: WideCaller, key_id: str) -> ApiKeyRecord:
    """The key; an error where it is another workspace's, as where there is none."""
    found: ApiKeyRecord = caller.backend.call("resources", "get_api_key", key_id)
    if caller.all_workspaces and (caller.workspace_id is None or found.workspace_id is None):
        return found
    if found.workspace_id is None or found.workspace_id != caller.workspace_id:
        raise NotFoundError("API key", f"there is no API key {key_id[:40]!r}: see the list of keys")
    return found


def _made(made: NewApiKey) -> dict[str, Any]:
    return plain(made.record) | {"token": made.token}


def plain(record: object) -> dict[str, Any]:
    """A record as JSON."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


def items(records: list[Any]) -> dict[str, Any]:
    """Records as JSON."""
    return {"items": [plain(record) for record in records]}
