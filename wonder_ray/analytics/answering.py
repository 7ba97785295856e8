"""A question about the event history, answered in bounds: what a confined process does for whoever asks over HTTP.

>>> Asked(storage="/data", report="cost", workspace="team").arrow
False
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.analytics.database import Room
from wonder_ray.analytics.events import SECONDS_MAX, Events
from wonder_ray.errors import QueryError, RunNotFoundError
from wonder_ray.values import encode_trusted

if TYPE_CHECKING:
    from wonder_ray.analytics.result import Result

ENTRY: Final = f"{__name__}:answer"
MEMORY_BYTES: Final = 1 << 30
"""Of the whole process: DuckDB keeps to a quarter of it, and some of its functions and the result come on top."""
ROOM: Final = Room(memory_bytes=256 << 20, spill_bytes=512 << 20, threads=1, rows=50_000, result_bytes=16 << 20)

_OUT_OF_MEMORY: Final = "Out of Memory Error"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question: exactly one of `query` and `report` is set."""

    storage: str
    query: str | None = None
    params: list[Any] | dict[str, Any] | None = None
    report: str | None = None
    run: str | None = None
    workflow: str | None = None
    since_us: int | None = None
    workspace: str | None = None
    """The only one whose rows there are; None is all of them."""
    seconds_max: float = SECONDS_MAX
    arrow: bool = False
    """Whether the answer is an Arrow IPC stream, instead of JSON."""


def answer(asked: bytes) -> bytes:
    """The answer, as it goes to the client."""
    wanted = msgspec.json.decode(asked, type=Asked)
    events = Events(wanted.storage, workspace=wanted.workspace, room=ROOM)
    try:
        found = _found(events, wanted)
    except (QueryError, RunNotFoundError) as error:  # a client need not know where the folder is
        if str(error).startswith(_OUT_OF_MEMORY):  # DuckDB would have it change its settings
            raise QueryError(f"it takes more than {ROOM.memory_bytes >> 20} MB of memory: ask for less") from None
        raise type(error)(str(error).replace(wanted.storage, "the storage folder")) from None
    if wanted.arrow:
        return found.ipc()
    return encode_trusted({"columns": found.columns, "rows": found.dicts()})


def _found(events: Events, wanted: Asked) -> Result:
    if wanted.query is not None:
        return events.sql(wanted.query, wanted.params, seconds_max=wanted.seconds_max)
    since = None if wanted.since_us is None else dt.datetime.fromtimestamp(wanted.since_us / 1_000_000, dt.UTC)
    return events.report(
        str(wanted.report), run=wanted.run, workflow=wanted.workflow, since=since, seconds_max=wanted.seconds_max
    )
