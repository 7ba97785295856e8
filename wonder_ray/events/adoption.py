"""What an instance does with what others have left: it finishes the logs of dead ones, and learns files that no log knows."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow.parquet as pq

from wonder_ray.events.commit_log import CommitLog, PlannedFile
from wonder_ray.events.layout import LogLock, no_failpoint
from wonder_ray.events.sealing import Sealer, direct
from wonder_ray.events.spans import Span
from wonder_ray.events.swaps import under_way
from wonder_ray.events.wire import STREAMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wonder_ray.clock import Clock
    from wonder_ray.events.layout import EventLayout
    from wonder_ray.events.sealing import EventSettings, Transact
    from wonder_ray.events.wire import Stream


class Adopter:
    """Finishes the logs of instances that are no more.

    Args:
        layout: The storage.
        own: The log of the instance that adopts.
        transact: How to write to it.
        settings: Sizes of the files that are still to be written.
        clock: For the time of a seal.
        failpoint: Told each step.
    """

    def __init__(
        self,
        layout: EventLayout,
        own: Path,
        transact: Transact,
        settings: EventSettings,
        clock: Clock,
        failpoint: Callable[[str], None] = no_failpoint,
    ) -> None:
        self._layout = layout
        self._own = own
        self._transact = transact
        self._settings = settings
        self._clock = clock
        self._failpoint = failpoint

    def adopt_all(self) -> list[str]:
        """Seal and take over every log whose owner is gone; their names."""
        adopted = []
        for path in self._layout.logs():
            if path != self._own and (lock := LogLock.try_acquire(path)) is not None:
                try:
                    if path.exists():
                        self._adopt(path)
                        adopted.append(path.name)
                finally:
                    lock.release(remove=not path.exists())
        return adopted

    def _adopt(self, path: Path) -> None:
        with CommitLog.own(path) as log:
            sealer = Sealer(self._layout, path, direct(log), self._settings, self._clock, self._failpoint)
            sealer.recover()
            sealer.seal_all()
            self._failpoint("adopt.sealed")
            self._transact(lambda mine: mine.adopt(log, self._own.name))
            self._failpoint("adopt.carried")
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        self._failpoint("adopt.deleted")


def index_unknown_files(log: CommitLog, layout: EventLayout) -> int:
    """Learn the marks of files that no log knows (their log was lost, or they come from a backup); how many there were.

    Inside a transaction of `log`.
    """
    found = 0
    for stream in STREAMS:
        listed = layout.files(stream)  # before the logs are read: a file of a live instance is in its log before it is here
        unknown = set(listed) - log.file_names(stream) - under_way(layout, stream)
        others = [path for path in layout.logs() if path != log.path] if unknown else []
        unknown -= _known(others, stream)
        for name in sorted(unknown):
            with suppress(FileNotFoundError):  # replaced since it was listed
                _index(log, layout, stream, name)
        found += len(unknown)
    return found


def _known(logs: list[Path], stream: Stream) -> set[str]:
    """The files that these logs know. One that is adopted at this moment may tell too few; to index a file twice is no harm."""
    names: set[str] = set()
    for path in logs:
        CommitLog.visit(path, lambda log: names.update(log.file_names(stream)))
    return names


def _index(log: CommitLog, layout: EventLayout, stream: Stream, name: str) -> None:
    path = layout.dataset(stream) / name
    table = pq.read_table(
        path, columns=["workflow_run_id", "sequence_number", "epoch"], partitioning=None, page_checksum_verification=True
    )
    runs = cast("list[str]", table.column("workflow_run_id").to_pylist())
    rows: dict[tuple[str, int], list[int]] = defaultdict(list)
    for run_id, sequence, epoch in zip(
        runs, table.column("sequence_number").to_pylist(), table.column("epoch").to_pylist(), strict=True
    ):
        rows[run_id, epoch].append(sequence)
    for (run_id, epoch), numbers in rows.items():
        log.add_spans(run_id, stream, _spans(numbers, epoch))
    log.add_file(stream, PlannedFile(name, len(runs), "", path.stat().st_size), sorted(set(runs)))


def _spans(numbers: list[int], epoch: int) -> list[Span]:
    ordered = np.unique(np.array(numbers, dtype=np.int64))
    pieces = np.split(ordered, np.flatnonzero(np.diff(ordered) != 1) + 1)
    return [Span(int(piece[0]), int(piece[-1]), epoch) for piece in pieces]
