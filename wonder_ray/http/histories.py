"""What has happened in a run, over HTTP: pages of events and trace events, a stream of events, and lines of the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from wonder_ray.events.query import EventRow
from wonder_ray.http import models
from wonder_ray.http.access import Caller, ReadEvents, ReadLogs
from wonder_ray.http.following import follow
from wonder_ray.http.runs import Ref
from wonder_ray.logs.query import LogReader
from wonder_ray.logs.record import Level, Service
from wonder_ray.values import encode_trusted

router = APIRouter(prefix="/v1/runs", tags=["histories"])
ROWS_MAX: Final = 1_000
SEQUENCE_MAX: Final = 2**53
After = Annotated[int, Query(ge=0, le=SEQUENCE_MAX, description="Only rows after this sequence number.")]
Limit = Annotated[int, Query(ge=1, le=ROWS_MAX)]
EXAMPLE: Final = 'id: 1\nevent: workflow.started\ndata: {"turn": 1}\n\n'
STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {"example": EXAMPLE}}},
    204: {"description": "There is no more to come"},
}


class LogFilter(BaseModel):
    """Which lines of the log are wanted."""

    level: Annotated[Level, Field(description="This level or worse.")] = "debug"
    service: Service | None = None
    event_type: Annotated[str | None, Field(max_length=128)] = None
    text: Annotated[str | None, Field(max_length=1_000, description="Contained in the message or the traceback.")] = None
    since_us: Annotated[int | None, Field(ge=0, le=2**62)] = None
    until_us: Annotated[int | None, Field(ge=0, le=2**62)] = None
    limit: Annotated[int, Field(ge=1, le=ROWS_MAX)] = 100


@router.get("/{run}/events", summary="Read events", response_model=models.Rows)
def events(caller: ReadEvents, run: Ref, after: After = 0, limit: Limit = 100) -> dict[str, Any]:
    """Its workflow events, in sequence."""
    return _page(caller, run, after, limit, "events")


@router.get("/{run}/trace", summary="Read trace events", response_model=models.Rows)
def trace(caller: ReadEvents, run: Ref, after: After = 0, limit: Limit = 100) -> dict[str, Any]:
    """Its trace events, which have a sequence of their own; none unless it was started with `trace`."""
    return _page(caller, run, after, limit, "trace")


@router.get("/{run}/logs", summary="Read the log", response_model=models.Lines)
def logs(
    caller: ReadLogs,
    run: Ref,
    filters: Annotated[LogFilter, Query()],
) -> dict[str, Any]:
    """The newest lines of the log that belong to a run and fit every filter, oldest first."""
    record = caller.backend.record(run, caller.workspace_id)
    wanted = filters.model_dump()
    lines = LogReader(caller.backend.storage).search(trace_id=record.run_id, newest_first=True, **wanted)
    return {"lines": [msgspec.structs.asdict(line) for line in reversed(lines)]}


@router.get("/{run}/events/stream", summary="Follow events", response_class=StreamingResponse, responses=STREAM)
def stream(
    request: Request,
    caller: ReadEvents,
    run: Ref,
    after: After = 0,
    last_event_id: Annotated[str | None, Header(pattern="^[0-9]{1,15}$", description="Goes before `after`.")] = None,
) -> Response:
    """Server-sent events, from the first on or after the last that was seen, until the run has ended; then 204."""
    record = caller.backend.record(run, caller.workspace_id)
    since = after if last_event_id is None else int(last_event_id)
    if record.ended and since >= (record.events or 0):
        return Response(status_code=204)  # which tells an EventSource not to come back
    watch, limits = request.app.state.watch, request.app.state.limits
    rows = follow(record.run_id, since, watch, _Histories(caller), seconds=limits.stream_s)
    return StreamingResponse(_messages(rows, limits.stream_bytes), media_type="text/event-stream")


async def _messages(followed: AsyncGenerator[list[EventRow], None], bytes_max: int) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    size = 0
    async with aclosing(followed):
        async for rows in followed:
            for row in rows:
                message = _message(row)
                yield message
                size += len(message)
                if size > bytes_max:
                    return
            if not rows:
                yield b": still here\n\n"


class _Histories:
    """What a stream asks about its own run."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def read(self, run_id: str, after: int, limit: int) -> list[EventRow]:
        """Its next events."""
        return await run_in_threadpool(_read, self._caller, run_id, after, limit, "events")

    async def ended(self, run_id: str) -> int | None:
        """The number of its last event, when it has ended."""
        record = await run_in_threadpool(self._caller.backend.record, run_id, self._caller.workspace_id)
        return (record.events or 0) if record.ended else None


def _message(row: EventRow) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (row.sequence_number, row.event_type.encode(), encode_trusted(_row_json(row)))


def _page(caller: Caller, ref: str, after: int, limit: int, stream_name: str) -> dict[str, Any]:
    record = caller.backend.record(ref, caller.workspace_id)
    rows = _read(caller, record.run_id, after, limit, stream_name)
    return {"rows": [_row_json(row) for row in rows], "last": rows[-1].sequence_number if rows else after}


def _read(caller: Caller, run_id: str, after: int, limit: int, stream_name: str) -> list[Any]:
    found: list[Any] = caller.backend.call("events", "read", run_id, after, limit, stream_name)
    return found


def _row_json(row: Any) -> dict[str, Any]:
    """Its columns, the details decoded."""
    found: dict[str, Any] = row.as_dict()
    found.pop("metadata", None)
    found.pop("payload", None)
    return found | {"details": row.details}
