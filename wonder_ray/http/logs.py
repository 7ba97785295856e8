"""The log over HTTP: the lines of a workspace, and with an API key for all workspaces those of the services, too."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query
from pydantic import Field

from wonder_ray.http import models
from wonder_ray.http.access import ReadLogsAny
from wonder_ray.http.histories import LogFilter
from wonder_ray.logs.query import LogReader

router = APIRouter(prefix="/v1", tags=["histories"])
SECONDS_MAX: Final = 30.0
"""For one search; the archive may be large."""


class LogSearch(LogFilter):
    """Which lines of the log are wanted."""

    run: Annotated[
        str | None, Field(max_length=64, examples=[models.RUN_EXAMPLE], description="Only of this run; see `/v1/runs/{run}`.")
    ] = None
    node: Annotated[str | None, Field(max_length=256, examples=["train"], description="Only of this node.")] = None
    archive: Annotated[bool, Field(description="Also those that are so old that they are archived.")] = False


@router.get("/logs", summary="Search the log", response_model=models.FoundLines)
def search(caller: ReadLogsAny, filters: Annotated[LogSearch, Query()]) -> dict[str, Any]:
    """The newest lines that fit every filter, oldest first.

    With an API key of one workspace, or where one is named, its lines alone; with a key for all workspaces all lines, also those
    of the services.
    """
    wanted = filters.model_dump(exclude={"run", "node"})
    if filters.run is not None:
        wanted["trace_id"] = caller.backend.record(filters.run, caller.workspace_id).run_id
    else:
        wanted["workspace_id"] = caller.workspace_id
    reader = LogReader(caller.backend.storage, seconds_max=SECONDS_MAX)
    lines = reader.search(node_id=filters.node, newest_first=True, **wanted)
    return {"lines": [msgspec.structs.asdict(line) for line in reversed(lines)], "skipped": len(reader.skipped)}
