"""Reports, SQL and replays over HTTP: questions about whole histories, each answered in a process with bounds on all it takes.

A report sees the rows of one workspace and no others. SQL sees those of all workspaces, and so wants an API key for all of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from wonder_ray.analytics.answering import ENTRY, MEMORY_BYTES, Asked
from wonder_ray.analytics.events import SECONDS_MAX
from wonder_ray.confined import Bounds
from wonder_ray.http import models
from wonder_ray.http.access import ReadEvents, ReadEventsAll, ReadEventsAny, WideCaller
from wonder_ray.http.runs import Ref
from wonder_ray.reading import replaying
from wonder_ray.reading.replaying import Recorded

router = APIRouter(prefix="/v1", tags=["analysis"])
ARROW: Final = "application/vnd.apache.arrow.stream"
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": models.Table, "content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}}
}
Name = Annotated[Literal["cost", "queue", "retries", "fanout", "critical-path"], Path(examples=["cost"])]
Accept = Annotated[str | None, Header(max_length=256, description=f"`{ARROW}`, for the table as Arrow holds it.")]
Seconds = Annotated[float, Field(gt=0, le=SECONDS_MAX, description="What takes longer is ended.")]


class ReportFilter(BaseModel):
    """What a report is about."""

    run: Annotated[str | None, Field(max_length=64, examples=[models.RUN_EXAMPLE], description="Only this run.")] = None
    workflow: Annotated[str | None, Field(max_length=128, description="Only runs of the workflow of this name.")] = None
    since_us: Annotated[int | None, Field(ge=0, le=2**52, description="Only runs started then or later.")] = None
    seconds_max: Seconds = SECONDS_MAX


class SqlBody(BaseModel):
    """A question in SQL."""

    model_config = ConfigDict(extra="forbid")
    query: Annotated[
        str, Field(min_length=1, max_length=100_000, examples=["SELECT event_type, count(*) AS n FROM events GROUP BY 1"])
    ]
    params: Annotated[
        list[Any] | dict[str, Any] | None, Field(max_length=1_000, description="For `?` an array, for `$name` an object.")
    ] = None
    seconds_max: Seconds = SECONDS_MAX


@router.get("/reports/{name}", summary="Make a report", responses=ANSWERS)
def report(caller: ReadEventsAny, name: Name, filters: Annotated[ReportFilter, Query()], accept: Accept = None) -> Response:
    """What `wonder report` tells of the workspace; with an API key for all workspaces that names none, of all of them.

    `critical-path` is of the latest run, unless another is named.
    """
    given = filters.model_dump()
    return _told(caller, Asked(storage="", report=name, workspace=caller.workspace_id, **given), accept)


@router.post("/sql", summary="Ask in SQL", responses=ANSWERS)
def sql(caller: ReadEventsAll, body: SqlBody, accept: Accept = None) -> Response:
    """One SELECT over the views `events`, `trace_events`, `runs`, `attempts` and `tokens`.

    It only reads, and only these. They hold the rows of all workspaces, so that it takes an API key for all. A result has at most
    50,000 rows.
    """
    return _told(caller, Asked(storage="", **body.model_dump()), accept)


@router.post("/runs/{run}/replay", summary="Replay a run", response_model=models.Verdict)
def replay(caller: ReadEvents, run: Ref) -> Response:
    """Whether today's planners make the recorded events of its facts, and its stored state is what they fold to."""
    record = caller.backend.record(run, caller.workspace_id)
    found = caller.backend.call(
        "resources", "get_definition", record.workflow_name, record.workflow_version, workspace_id=record.workspace_id
    )
    recorded = Recorded(storage=str(caller.backend.storage), run=record, definition=found.definition)
    bounds = Bounds(seconds=replaying.SECONDS_MAX, memory_bytes=replaying.MEMORY_BYTES)
    return Response(caller.backend.ask_history(replaying.ENTRY, recorded.packed(), bounds), media_type="application/json")


def _told(caller: WideCaller, asked: Asked, accept: str | None) -> Response:
    arrow = ARROW in (accept or "")
    question = msgspec.structs.replace(asked, storage=str(caller.backend.storage), arrow=arrow)
    bounds = Bounds(seconds=asked.seconds_max, memory_bytes=MEMORY_BYTES)
    found = caller.backend.ask_history(ENTRY, msgspec.json.encode(question), bounds)
    return Response(found, media_type=ARROW if arrow else "application/json")
