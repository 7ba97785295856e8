"""What lies in the datasets: days, files, rows, and which runs they hold. Reads only.

>>> survey = take_survey(EventLayout(Path("storage")))  # doctest: +SKIP
>>> [(day.date, len(day.files), day.rows) for day in survey.days("events")]  # doctest: +SKIP
[('2026-11-22', 812, 402113), ('2026-11-23', 17, 9021)]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq

from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import date_of
from wonder_ray.events.log_keeping import KeptFile
from wonder_ray.events.swaps import under_way
from wonder_ray.events.wire import STREAMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.events.layout import EventLayout
    from wonder_ray.events.log_keeping import DeletedRun
    from wonder_ray.events.wire import Stream


class Day(NamedTuple):
    """The finished files of one UTC day of a stream."""

    stream: Stream
    date: str
    files: tuple[KeptFile, ...]

    @property
    def rows(self) -> int:
        """In all of its files."""
        return sum(file.rows for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all of its files."""
        return sum(file.size for file in self.files)

    def __str__(self) -> str:
        return f"{self.stream} of {self.date}"


@dataclass(slots=True)
class Survey:
    """What was found.

    Attributes:
        files: Stream -> name -> a finished file that is there.
        unknown: Stream -> names of files that no log knows: left alone until a service has learnt them.
        busy: Stream -> dates with files that are being written or replaced.
        unsealed_rows: Rows that wait for their file.
        unsealed_runs: The runs with such rows.
        deleted: Runs that are deleted for good.
    """

    files: dict[Stream, dict[str, KeptFile]] = field(default_factory=lambda: {stream: {} for stream in STREAMS})
    unknown: dict[Stream, set[str]] = field(default_factory=lambda: {stream: set() for stream in STREAMS})
    busy: dict[Stream, set[str]] = field(default_factory=lambda: {stream: set() for stream in STREAMS})
    unsealed_rows: int = 0
    unsealed_runs: set[str] = field(default_factory=set)
    deleted: list[DeletedRun] = field(default_factory=list)

    def days(self, stream: Stream) -> list[Day]:
        """The days with files, oldest first."""
        by_date: dict[str, list[KeptFile]] = {}
        for name, file in self.files[stream].items():
            by_date.setdefault(date_of(name), []).append(file)
        return [Day(stream, date, tuple(sorted(by_date[date]))) for date in sorted(by_date)]

    def settled_days(self, stream: Stream, before: str) -> list[Day]:
        """The days before a date of which every file is finished and known, and none is being replaced."""
        disturbed = self.busy[stream] | {date_of(name) for name in self.unknown[stream]}
        return [day for day in self.days(stream) if day.date < before and day.date not in disturbed]


def take_survey(layout: EventLayout) -> Survey:
    """Look at all files and logs as they are now."""
    listed = {stream: layout.files(stream) for stream in STREAMS}  # before the logs: what is here is planned there by then
    found = Survey()
    kept: dict[Stream, dict[str, KeptFile]] = {stream: {} for stream in STREAMS}
    looked_at: dict[str, int] = {}

    def look(log: CommitLog) -> None:
        for stream in STREAMS:
            kept[stream].update(log.kept_files(stream))
            found.busy[stream].update(map(date_of, log.unfinished_files(stream)))
        looked_at[log.path.name] = log.unsealed()[0]
        found.unsealed_runs.update(log.unsealed_runs())
        found.deleted.extend(each for each in log.deleted_runs() if each not in found.deleted)

    while not all(CommitLog.visit(path, look) for path in layout.logs()):
        pass
    found.unsealed_rows = sum(looked_at.values())
    for stream in STREAMS:
        replaced = under_way(layout, stream)
        found.busy[stream].update(map(date_of, replaced))
        for name in listed[stream]:
            if name not in replaced:
                _note(found, layout, stream, name, kept[stream].get(name))
    return found


def _note(found: Survey, layout: EventLayout, stream: Stream, name: str, known: KeptFile | None) -> None:
    if known is not None and known.size:
        found.files[stream][name] = known
        return
    if known is None:
        found.unknown[stream].add(name)
    path = layout.dataset(stream) / name
    try:
        found.files[stream][name] = KeptFile(name, pq.read_metadata(path).num_rows, "", path.stat().st_size)
    except (OSError, ValueError):  # replaced since it was listed, or damaged: it is nobody's to touch
        found.busy[stream].add(date_of(name))


def runs_of(layout: EventLayout, stream: Stream, names: Iterable[str]) -> set[str]:
    """The runs with rows in these files, as the logs know them."""
    wanted = list(names)
    runs: set[str] = set()

    def look(log: CommitLog) -> None:
        for name in wanted:
            runs.update(log.runs_of_file(stream, name))

    while not all(CommitLog.visit(path, look) for path in layout.logs()):
        pass
    return runs


def last_days(layout: EventLayout, runs: Iterable[str]) -> dict[str, str]:
    """Run -> the last day that has rows of it, in any stream."""
    wanted = list(runs)
    found: dict[str, str] = {}

    def look(log: CommitLog) -> None:
        for run in wanted:
            for stream in STREAMS:
                for name in log.files_of_run(run, stream):
                    found[run] = max(found.get(run, ""), date_of(name))

    while not all(CommitLog.visit(path, look) for path in layout.logs()):
        pass
    return found
