"""How acknowledged rows become finished files: plan, write, seal.

1. The oldest batches are chosen; the plan (these batches, these file names) is committed.
2. Each file is written aside, synced, moved in.
3. The seal is committed: the files are finished, the batches leave the log.
After a crash at any point, the plans that are still open are carried out again, under the same names.

>>> Sealer(layout, log_path, direct(log), settings).seal_all()  # doctest: +SKIP
Sealed(rows=1000, size=364000)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import msgspec

from wonder_ray.clock import SystemClock
from wonder_ray.errors import StorageError
from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import no_failpoint
from wonder_ray.events.parquet_writer import runs_in, split_days, to_table, write_file
from wonder_ray.events.wire import STREAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pyarrow as pa

    from wonder_ray.clock import Clock
    from wonder_ray.events.commit_log import Plan, StoredBatch
    from wonder_ray.events.layout import EventLayout
    from wonder_ray.events.wire import Stream

T = TypeVar("T")


class EventSettings(msgspec.Struct, frozen=True):
    """When rows become files, and how much may wait.

    Example:
        >>> EventSettings(flush_age_s=5.0).flush_rows
        200000
    """

    flush_rows: int = 200_000
    """So many unsealed rows are written at once; also the size of the largest file."""
    flush_bytes: int = 96 << 20
    """As `flush_rows`, bytes of JSON lines: what one flush holds in memory, about three times."""
    flush_age_s: float = 30.0
    """No acknowledged row waits longer for its file."""
    flush_interval_s: float = 1.0
    """Flushes that are asked for come at most so often, for all runs together."""
    queue_bytes: int = 64 << 20
    """So much may wait to be committed; more is refused, and sent again."""
    group_bytes: int = 16 << 20
    """So much is committed at once."""


class Sealed(NamedTuple):
    """How much has become files."""

    rows: int
    size: int
    """Bytes of JSON lines."""


class Transact(Protocol):
    """Runs a function on a commit log, inside one durable transaction of it."""

    def __call__(self, work: Callable[[CommitLog], T], /) -> T:
        """What the function returned, once it is committed."""
        ...


def direct(log: CommitLog) -> Transact:
    """Transactions in the calling thread, for a log that nobody else uses."""

    def transact(work: Callable[[CommitLog], T], /) -> T:
        with log.transaction():
            return work(log)

    return transact


class Sealer:
    """Seals the rows of one commit log.

    Args:
        layout: The storage.
        log_path: The log; it is read through a connection of its own, so that appends go on meanwhile.
        transact: How to write to it.
        settings: Sizes.
        clock: For the time of a seal.
        failpoint: Told each step; see `layout.FAILPOINTS`.
    """

    def __init__(
        self,
        layout: EventLayout,
        log_path: Path,
        transact: Transact,
        settings: EventSettings,
        clock: Clock | None = None,
        failpoint: Callable[[str], None] = no_failpoint,
    ) -> None:
        self._layout = layout
        self._log_path = log_path
        self._transact = transact
        self._settings = settings
        self._clock = clock or SystemClock()
        self._failpoint = failpoint

    def recover(self) -> Sealed:
        """Carry out the plans that a crash has left, and remove its unfinished files."""
        with self._reader() as reader:
            plans, prefix = reader.open_plans(), reader.prefix()
        for leftover in self._layout.tmp_dir.glob(f"*{prefix}-*"):
            leftover.unlink(missing_ok=True)
        return _total([self._carry_out(plan) for plan in plans])

    def seal_all(self) -> Sealed:
        """Seal all rows that are in the log now."""
        with self._reader() as reader:
            until = reader.unsealed()[2]
        return _total([self._seal_stream(stream, until) for stream in STREAMS])

    def seal_oldest(self) -> Sealed:
        """Seal one plan's worth of each stream."""
        with self._reader() as reader:
            until = reader.unsealed()[2]
        return _total([self._seal_next(stream, until) for stream in STREAMS])

    def _seal_stream(self, stream: Stream, until: int) -> Sealed:
        total = Sealed(0, 0)
        while (more := self._seal_next(stream, until)).rows:
            total = _total([total, more])
        return total

    def _seal_next(self, stream: Stream, until: int) -> Sealed:
        with self._reader() as reader:
            chosen = reader.next_batches(stream, until, self._settings.flush_rows, self._settings.flush_bytes)
            if chosen is None:
                return Sealed(0, 0)
            batches = reader.batches(stream, *chosen)
        table = to_table(stream, batches)
        days = split_days(table)
        files = [(day, rows.num_rows, runs_in(rows)) for day, rows in days.items()]

        def plan_it(log: CommitLog) -> Plan:
            plan = log.add_plan(stream, chosen, files)
            self._failpoint("plan.before_commit")
            return plan

        plan = self._transact(plan_it)
        self._failpoint("plan.after_commit")
        self._finish(plan, days)
        return _sealed(batches)

    def _carry_out(self, plan: Plan) -> Sealed:
        with self._reader() as reader:
            batches = reader.batches(plan.stream, plan.first_batch, plan.last_batch)
        self._finish(plan, split_days(to_table(plan.stream, batches)))
        return _sealed(batches)

    def _finish(self, plan: Plan, days: dict[str, pa.Table]) -> None:
        by_name = {f"date={day}/": table for day, table in days.items()}
        done = [
            write_file(self._layout, plan.stream, file, by_name[file.name[: file.name.index("/") + 1]], self._failpoint)
            for file in plan.files
        ]

        def seal_it(log: CommitLog) -> None:
            log.seal(plan, done, self._clock.now_us())
            self._failpoint("seal.before_commit")

        self._transact(seal_it)
        self._failpoint("seal.after_commit")

    def _reader(self) -> CommitLog:
        reader = CommitLog.read(self._log_path)
        if reader is None:
            msg = f"{self._log_path} is gone while its service is alive: stop the service, and do not touch the folder"
            raise StorageError(msg)
        return reader


def _sealed(batches: Iterable[StoredBatch]) -> Sealed:
    return _total(Sealed(batch.last - batch.first + 1, len(batch.lines)) for batch in batches)


def _total(parts: Iterable[Sealed]) -> Sealed:
    parts = list(parts)
    return Sealed(sum(part.rows for part in parts), sum(part.size for part in parts))
