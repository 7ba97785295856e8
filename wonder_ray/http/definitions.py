"""Definitions over HTTP. Code never arrives in one: each action is of a registered code bundle, or the package's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Body, Path, Query, Request

from wonder_ray.definitions.files import definition_from_json
from wonder_ray.errors import DefinitionError, ForbiddenError, NotFoundError
from wonder_ray.http import models
from wonder_ray.http.access import Caller, ReadDefinitions, WriteDefinitions
from wonder_ray.resources.access_records import ADMIN
from wonder_ray.values import canonical, decode

READY: Final = frozenset({"wonder_ray.actions:http_request"})
"""The package's own actions: they are on every node, and see themselves to it that no harm is done with them."""
router = APIRouter(prefix="/v1/definitions", tags=["definitions"])
EXAMPLE: Final = {
    "name": "approval",
    "nodes": [{"id": "ask", "kind": "gate", "input": {"amount": "input.amount"}, "output": {"state.answer": "result"}}],
    "start": ["ask"],
}
Document = Annotated[dict[str, Any], Body(description="A workflow's file form, as JSON.", examples=[EXAMPLE])]
Name = Annotated[str, Path(max_length=128, examples=["approval"])]


@router.post("", status_code=201, summary="Register a workflow", response_model=models.Registered)
def register(request: Request, caller: WriteDefinitions, document: Document) -> dict[str, Any]:
    """The version is the same for the same content.

    Its actions are in a code bundle that the workspace has registered, or ready ones of the package (`http_request`).
    """
    definition = definition_from_json(document, source="the definition").to_json()
    _check_code(caller, definition)
    if ADMIN not in request.state.identity.scopes:
        _check_secrets(definition)
    version = caller.backend.call("resources", "put_definition", canonical(definition), workspace_id=caller.workspace_id)
    return {"name": definition["name"], "version": version}


@router.get("", summary="List workflows", response_model=models.DefinitionList)
def list_definitions(
    caller: ReadDefinitions,
    name: Annotated[str | None, Query(max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> dict[str, Any]:
    """The versions of one workflow, or of all of the workspace, newest first."""
    page = caller.backend.call(
        "resources", "list_definitions", workspace_id=caller.workspace_id, name=name, limit=limit, cursor=cursor
    )
    return {"definitions": [msgspec.structs.asdict(each) for each in page.definitions], "cursor": page.cursor}


@router.get("/{name}", summary="Show a workflow", response_model=models.DefinitionView)
def show(caller: ReadDefinitions, name: Name, version: Annotated[str | None, Query(max_length=64)] = None) -> dict[str, Any]:
    """One version of a workflow, by default the one that was registered last."""
    try:
        found = caller.backend.call("resources", "get_definition", name, version, workspace_id=caller.workspace_id)
    except DefinitionError as error:
        raise NotFoundError("definition", str(error)) from None
    return msgspec.structs.asdict(found) | {"definition": decode(found.definition)}


@router.delete("/{name}", summary="Remove a workflow", response_model=models.Removed)
def remove(caller: WriteDefinitions, name: Name, version: Annotated[str | None, Query(max_length=64)] = None) -> dict[str, Any]:
    """One version of a workflow, by default all of them; those that a run has stay."""
    try:
        found = caller.backend.call("resources", "delete_definition", name, version=version, workspace_id=caller.workspace_id)
    except DefinitionError as error:
        raise NotFoundError("definition", str(error)) from None
    return {"name": name, "versions": found}


def _check_code(caller: Caller, definition: dict[str, Any]) -> None:
    """Raise for an action that no registered bundle announces: anything importable could be called by its name else."""
    sha256 = definition.get("bundle")
    known: set[str] = set()
    if sha256 is not None:
        content = caller.backend.call("resources", "get_bundle", str(sha256), workspace_id=caller.workspace_id).content
        known = {*content.targets, *content.pickles}
    for node_id, part in _parts(definition):
        if (part.get("resources") or {}).get("runtime_env"):
            raise DefinitionError(
                f"node {node_id!r}: a runtime environment brings code along, which is not taken over HTTP: register the workflow "
                "with `Client.register`, or leave it out"
            )
        action = part.get("action")
        if action is not None and action not in known and action not in READY:
            has = f"its code bundle has {', '.join(sorted(known)[:10]) or 'no actions'}" if sha256 else "it names no code bundle"
            raise DefinitionError(
                f"node {node_id!r}: action {str(action)[:200]!r} cannot be named over HTTP: {has}; register its code with "
                "`Client.register`, and name that bundle"
            )


def _check_secrets(definition: dict[str, Any]) -> None:
    """Raise where a ready action is given a secret: it sends it wherever the definition says, and values never come out else."""
    for node_id, part in _parts(definition):
        if part.get("action") in READY and "token" in (part.get("input") or {}):
            raise ForbiddenError(
                f"node {node_id!r}: `token` gives a secret to {part['action']!r}, which sends it to any address: over HTTP this "
                f"needs an API key with the scope {ADMIN!r}"
            )


def _parts(definition: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Whatever in a definition can name an action or an environment."""
    for node in definition["nodes"]:
        yield node["id"], node
        for part in (node.get("undo"), *(node.get("steps") or ())):
            if part is not None:
                yield node["id"], part
