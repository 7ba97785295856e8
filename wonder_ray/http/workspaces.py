"""Workspaces and projects over HTTP: a key of one workspace sees that one, and a key for all of them makes and removes them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from wonder_ray.errors import ForbiddenError
from wonder_ray.http import models
from wonder_ray.http.access import Administer, AdministerAll, AdministerAny
from wonder_ray.http.administration import items, plain

router = APIRouter(prefix="/v1", tags=["workspaces"])
WorkspaceName = Annotated[str, Path(max_length=128, examples=["team"])]
ProjectName = Annotated[str, Path(max_length=128, examples=["search"])]
Text = Annotated[str, Field(max_length=1_000)]


class WorkspaceBody(BaseModel):
    """What workspace is wanted."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[models.Name, Field(examples=["team"])]
    description: Text = ""


class WorkspaceChange(BaseModel):
    """What of a workspace is changed: what is left out stays."""

    model_config = ConfigDict(extra="forbid")
    description: Text | None = None
    rate_per_s: Annotated[
        float | None, Field(ge=0, le=1e6, examples=[50], description="Requests a second of all its API keys together.")
    ] = None
    burst: Annotated[float | None, Field(ge=0, le=1e6, description="How many may come at once after a pause.")] = None
    unlimited: Annotated[bool, Field(description="Whether the limit is taken away.")] = False

    @model_validator(mode="after")
    def _one_of_them(self) -> WorkspaceChange:
        if self.unlimited and self.rate_per_s is not None:
            msg = "give rate_per_s, or unlimited"
            raise ValueError(msg)
        return self


class ProjectBody(BaseModel):
    """What project is wanted."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[models.Name, Field(examples=["search"])]
    description: Text = ""


class ProjectChange(BaseModel):
    """What of a project is changed."""

    model_config = ConfigDict(extra="forbid")
    description: Text


@router.get("/workspaces", summary="List workspaces", response_model=models.Items)
def list_workspaces(caller: AdministerAny) -> dict[str, Any]:
    """Those that the API key is good for, by name: one, or all of them."""
    if caller.all_workspaces:
        return items(caller.backend.call("resources", "list_workspaces"))
    return items([caller.backend.call("resources", "get_workspace", caller.workspace_id)])


@router.post("/workspaces", status_code=201, summary="Make a workspace")
def create_workspace(caller: AdministerAll, body: WorkspaceBody) -> dict[str, Any]:
    """With its project `default`. It takes an API key for all workspaces."""
    return plain(caller.backend.call("resources", "create_workspace", body.name, description=body.description))


@router.get("/workspaces/{name}", summary="Show a workspace")
def show_workspace(caller: AdministerAny, name: WorkspaceName) -> dict[str, Any]:
    """One that the API key is good for."""
    if name != caller.workspace_id and not caller.all_workspaces:
        raise ForbiddenError(f"the API key is not for workspace {name!r}: use one of that workspace")
    return plain(caller.backend.call("resources", "get_workspace", name))


@router.patch("/workspaces/{name}", summary="Change a workspace")
def update_workspace(caller: AdministerAll, name: WorkspaceName, body: WorkspaceChange) -> dict[str, Any]:
    """Its description, or the limit of its requests. It takes an API key for all workspaces."""
    return plain(caller.backend.call("resources", "update_workspace", name, **body.model_dump()))


@router.delete("/workspaces/{name}", summary="Remove a workspace")
def delete_workspace(caller: AdministerAll, name: WorkspaceName) -> dict[str, Any]:
    """One that holds no run, definition, API key or secret. It takes an API key for all workspaces."""
    caller.backend.call("resources", "delete_workspace", name)
    return {"ok": True}


@router.get("/projects", summary="List projects", response_model=models.Items)
def list_projects(caller: Administer) -> dict[str, Any]:
    """Those of the workspace, by name."""
    return items(caller.backend.call("resources", "list_projects", workspace_id=caller.workspace_id))


@router.post("/projects", status_code=201, summary="Make a project")
def create_project(caller: Administer, body: ProjectBody) -> dict[str, Any]:
    """A part of the workspace that runs can be assigned to."""
    where = {"workspace_id": caller.workspace_id, "description": body.description}
    return plain(caller.backend.call("resources", "create_project", body.name, **where))


@router.get("/projects/{name}", summary="Show a project")
def show_project(caller: Administer, name: ProjectName) -> dict[str, Any]:
    """One of the workspace."""
    return plain(caller.backend.call("resources", "get_project", name, workspace_id=caller.workspace_id))


@router.patch("/projects/{name}", summary="Change a project")
def update_project(caller: Administer, name: ProjectName, body: ProjectChange) -> dict[str, Any]:
    """Its description."""
    where = {"workspace_id": caller.workspace_id, "description": body.description}
    return plain(caller.backend.call("resources", "update_project", name, **where))


@router.delete("/projects/{name}", summary="Remove a project")
def delete_project(caller: Administer, name: ProjectName) -> dict[str, Any]:
    """One without runs."""
    caller.backend.call("resources", "delete_project", name, workspace_id=caller.workspace_id)
    return {"ok": True}
