"""How long the SQLite files of runs that are over are kept: their events tell the same, in Parquet.

A file goes when its run ended so long ago, the registry says so, every event of it lies in finished files (or has been removed
by retention), and no process holds it.

>>> keep(Layout("storage"), Retention(), records).removed  # doctest: +SKIP
['run_0192f0c1a2b3_0123456789abcdef']
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from wonder_ray.clock import SystemClock
from wonder_ray.clock_guard import DAY_US, consult
from wonder_ray.errors import StorageError
from wonder_ray.events.query import EventReader
from wonder_ray.storage.lock import RunLock
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wonder_ray.clock import Clock
    from wonder_ray.resources.records import RunRecord
    from wonder_ray.settings import Retention
    from wonder_ray.storage.layout import Layout

    Records = Callable[[Sequence[str]], Sequence[RunRecord]]
    """Gives the records of runs, of those that the registry knows."""

AT_ONCE: Final = 100


class KeptRunFiles(msgspec.Struct):
    """What was done: the runs whose files went, how many bytes that were, and why nothing was done, if so."""

    removed: list[str] = []
    size: int = 0
    problems: list[str] = []


def keep(
    layout: Layout,
    retention: Retention,
    records: Records,
    *,
    clock: Clock | None = None,
    trust_clock: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> KeptRunFiles:
    """Remove what is too old, if the clock can be believed."""
    kept, now_us = KeptRunFiles(), (clock or SystemClock()).now_us()
    if retention.run_files_days is None:
        return kept
    judgement = consult(layout.root, now_us, trust=trust_clock)
    if not judgement.trusted:
        kept.problems.append(f"no file of a run was removed, since the clock is not believed: {judgement.why}")
        return kept
    for run_id in expired(layout, now_us - retention.run_files_days * DAY_US, records):
        if stopping():
            break
        size = _remove(layout, run_id)
        if size is not None:
            kept.removed.append(run_id)
            kept.size += size
    return kept


def expired(layout: Layout, before_us: int, records: Records) -> Iterator[str]:
    """The runs whose files may go: over since before `before_us`, and told to the end."""
    reader = EventReader(layout.root)
    old = [run_id for run_id in layout.run_ids() if _started_us(run_id) < before_us]
    for start in range(0, len(old), AT_ONCE):
        for record in records(old[start : start + AT_ONCE]):
            over = record.ended and record.ended_us is not None and record.ended_us < before_us
            if over and reader.sealed(record.run_id) >= (record.events or 0):
                yield record.run_id


def _started_us(run_id: str) -> int:
    """When a run was created: its id says so."""
    return int(run_id.split("_")[1], 16) * 1000


def _remove(layout: Layout, run_id: str) -> int | None:
    """Remove a run's file, under its lock; the bytes it had, None when somebody holds it."""
    path = layout.run_file(run_id)
    lock = RunLock(layout.lock_file(run_id))
    if not lock.try_acquire({"pid": os.getpid(), "placement": "removal"}):
        return None
    try:
        with suppress(StorageError):  # its write-ahead log goes into it: whatever a kill leaves from here on is whole
            SqliteRunStore(path).close()
        parts = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "")]
        size = sum(part.stat().st_size for part in parts if part.exists())
        for part in parts:
            part.unlink(missing_ok=True)
        # The rule that a lock file stays protects runs that somebody may run; the epochs protect this one, which is over.
        lock.path.unlink(missing_ok=True)
        return size
    finally:
        lock.release()
