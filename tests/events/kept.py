"""Storages with days of history, for tests of compaction and retention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.dataset as ds

from tests.events.histories import DAY_US, NOON_US, info, line, run_id, trace_line
from wonder_ray.clock import SimulatedClock
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.sealing import EventSettings
from wonder_ray.events.service import EventService
from wonder_ray.events.wire import EventBatch
from wonder_ray.settings import Retention

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from wonder_ray.events.wire import Stream

EAGER: Final = EventSettings(flush_interval_s=0.0)
KEEP: Final = Retention(events_days=90, trace_days=10)


class Past:
    """One run: `rows` on each of the days `first` to `last` (0 is 2026-11-18), the last row terminal unless it is `live`."""

    def __init__(self, number: int, first: int, last: int, *, rows: int = 4, live: bool = False) -> None:
        self.run = run_id(number)
        self.first, self.last, self.rows, self.live = first, last, rows, live

    @property
    def length(self) -> int:
        return self.rows * (self.last - self.first + 1)

    def day_of(self, number: int) -> int:
        return self.first + (number - 1) // self.rows

    def batch(self, first: int, last: int, stream: Stream = "events", *, epoch: int = 1) -> EventBatch:
        rows = [self._line(number, stream) for number in range(first, last + 1)]
        return EventBatch(info(self.run), stream, epoch, first, last, b"\n".join(rows))

    def _line(self, number: int, stream: Stream) -> bytes:
        at_us = NOON_US + self.day_of(number) * DAY_US
        if stream == "trace":
            return trace_line(number, at_us=at_us)
        ended = number == self.length and not self.live
        return line(number, at_us=at_us, event_type="workflow.completed" if ended else "token.created")


def store(storage: Path, pasts: Iterable[Past], *, files_a_day: int = 2, streams: tuple[Stream, ...] = ("events",)) -> None:
    """Put them into the datasets, through a service, each day in several files."""
    with EventService(storage, settings=EAGER) as service:
        pasts = list(pasts)
        for past in pasts:
            service.open(past.run, 1)
        for stream in streams:
            step = max(1, max(past.rows for past in pasts) // files_a_day)
            for start in range(1, max(past.length for past in pasts) + 1, step):
                for past in pasts:
                    if start <= past.length:
                        service.submit([past.batch(start, min(start + step - 1, past.length), stream)])
                service.flush()


def clock_at(day: float) -> SimulatedClock:
    """Noon of a day; 0 is 2026-11-18."""
    return SimulatedClock(start_us=NOON_US + round(day * DAY_US))


def date(day: int) -> str:
    """The date of a day; 0 is 2026-11-18."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp((NOON_US + day * DAY_US) / 1_000_000, UTC).strftime("%Y-%m-%d")


def files(storage: Path, stream: Stream = "events") -> dict[str, int]:
    """Date -> how many files."""
    found: dict[str, int] = {}
    for name in EventLayout(storage).files(stream):
        found[name[5:15]] = found.get(name[5:15], 0) + 1
    return found


def whole_table(storage: Path, stream: Stream = "events") -> pa.Table:
    """All rows, as a plain reader finds them, in a fixed order."""
    table = ds.dataset(EventLayout(storage).dataset(stream), partitioning="hive").to_table()
    return table.sort_by([("workflow_run_id", "ascending"), ("sequence_number", "ascending")])
