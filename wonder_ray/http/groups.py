"""The open sibling groups of a run, over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from wonder_ray.http import models
from wonder_ray.http.access import Key, WriteRuns
from wonder_ray.http.runs import Ref

router = APIRouter(prefix="/v1/runs", tags=["groups"])


@router.post("/{run}/groups/complete", status_code=202, summary="Complete a group")
def complete(caller: WriteRuns, run: Ref, body: models.GroupBody, key: Key) -> dict[str, Any]:
    """Its join fires with what there is; the rest of the group is withdrawn."""
    return {**caller.run(run).complete_group(body.group, reason=body.reason, key=key)}


@router.post("/{run}/groups/close", status_code=202, summary="Close a group")
def close(caller: WriteRuns, run: Ref, body: models.CloseGroupBody, key: Key) -> dict[str, Any]:
    """It takes no more members: its join fires when those that it has have settled."""
    return {**caller.run(run).close_group(body.group, key=key)}


@router.post("/{run}/groups/members", status_code=202, summary="Add members to a group")
def add(caller: WriteRuns, run: Ref, body: models.MembersBody, key: Key) -> dict[str, Any]:
    """One per item, which is the `item` of its branch."""
    return {**caller.run(run).add_members(body.group, body.items, key=key)}
