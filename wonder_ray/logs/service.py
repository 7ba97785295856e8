"""The log service itself, free of Ray: a bounded queue in front of one thread that writes.

`write` takes a lock for microseconds and never waits for the disk. What does not fit is dropped and counted; as soon as
something can be written again, so is one line that says how much was lost (`service=logs, event_type=log_lines_dropped`).
The disk may fail in any way: the batch is kept and tried again in a freshly opened file, first soon, then more rarely.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from wonder_ray.clock import SystemClock
from wonder_ray.logs.record import SERVICES, LogLine, bounded, dropped_line, is_severe, weight
from wonder_ray.logs.store import FILE_BYTES_MAX, LogStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.clock import Clock


_ATTEMPTS_WHEN_CLOSING = 3


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of a `LogService`.

    Attributes:
        queue_lines_max: Lines that may wait for the disk.
        queue_bytes_max: Memory that they may take, roughly.
        reserve: Fraction of both that only warnings and worse may use, so that a flood of prints cannot hide an error.
        batch_lines_max: Lines in one transaction.
        file_bytes_max: Size at which a file is finished.
        retry_s_min: Wait after a first disk error; doubled with each further one up to `retry_s_max`.
        retry_s_max: See `retry_s_min`.
    """

    queue_lines_max: int = 50_000
    queue_bytes_max: int = 64 * 1024 * 1024
    reserve: float = 0.1
    batch_lines_max: int = 2_000
    file_bytes_max: int = FILE_BYTES_MAX
    retry_s_min: float = 0.1
    retry_s_max: float = 10.0


class LogStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a `LogService` has done so far.

    Attributes:
        accepted: Lines taken into the queue.
        written: Lines committed, without the service's own reports.
        dropped: Service -> lines dropped, since the queue was full or the service closed.
        refused: Accepted lines that no table could hold, or things that were no lines.
        queued: Lines that wait now.
        queued_bytes: Memory that they take, roughly.
        disk_errors: Failed attempts to write.
        last_error: The latest of them; None again once a write has succeeded.
        files_opened: Files opened for writing (rotations, restarts after errors).
        path: The file being written.
    """

    accepted: int
    written: int
    dropped: dict[str, int]
    refused: int
    queued: int
    queued_bytes: int
    disk_errors: int
    last_error: str | None
    files_opened: int
    path: str | None


class LogService:
    """Takes lines, writes them; never blocks a caller in `write`, and never raises.

    Args:
        storage: The storage folder; files go to `<storage>/logs`.
        instance: Names this process's files; one that is taken is made unique.
        clock: Decides about the day of a file.
        limits: Bounds.
        vfs: Name of a registered SQLite VFS, for fault injection.

    Example:
        >>> import tempfile
        >>> from wonder_ray.logs.query import LogReader
        >>> storage = tempfile.mkdtemp()
        >>> service = LogService(storage, "node1")
        >>> service.write([LogLine(timestamp=1, level="error", service="executor", event_type="rpc_timeout")])
        1
        >>> service.flush()
        True
        >>> [line.event_type for line in LogReader(storage).search(level="warning")]
        ['rpc_timeout']
        >>> service.close()
        True
    """

    def __init__(
        self,
        storage: Path | str,
        instance: str,
        clock: Clock | None = None,
        *,
        limits: ServiceLimits | None = None,
        vfs: str | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._limits = limits or ServiceLimits()
        self._store = LogStore(Path(storage) / "logs", instance, file_bytes_max=self._limits.file_bytes_max, vfs=vfs)
        self._changed = threading.Condition()  # guards everything below; the store is the writer thread's alone
        self._queue: deque[LogLine] = deque()
        self._queued_bytes = 0
        self._dropped: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._accepted = self._written = self._refused = self._settled = 0
        self._disk_errors = self._failures_in_row = 0
        self._last_error: str | None = None
        self._path: str | None = None
        self._files_opened = 0
        self._retry_now = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="wonder-logs-writer", daemon=True)
        self._thread.start()

    # -------------------------------------------------------------------------------------------------- for callers

    def write(self, lines: Iterable[LogLine]) -> int:
        """Queue the lines; how many were accepted. The others are dropped, counted and reported in the log later."""
        good: list[LogLine] = []
        bad = 0
        try:
            for line in lines:
                if isinstance(line, LogLine):
                    good.append(bounded(line))
                else:
                    bad += 1
        except Exception:  # noqa: BLE001 - not iterable, or half-made lines: no caller of a log should have to care
            bad += 1
        with self._changed:
            self._refused += bad
            accepted = sum(map(self._enqueue, good))
            self._accepted += accepted
            self._changed.notify_all()
        return accepted

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all that was accepted so far is committed; False when that has not happened in time."""
        with self._changed:
            wanted = self._accepted
            self._retry_now = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._settled >= wanted or not self._thread.is_alive(), timeout_s) and (
                self._settled >= wanted
            )

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what is queued and end; False when the disk would not take all of it in time: that is then dropped."""
        with self._changed:
            self._closing = True
            self._retry_now = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            lost = len(self._queue)
            for line in self._queue:
                self._dropped[_bucket(line)] += 1
            self._queue.clear()
            self._queued_bytes = 0
            return lost == 0

    def stats(self) -> LogStats:
        """Counters, for health checks and tests."""
        with self._changed:
            return LogStats(
                accepted=self._accepted,
                written=self._written,
                dropped=dict(self._dropped),
                refused=self._refused,
                queued=len(self._queue),
                queued_bytes=self._queued_bytes,
                disk_errors=self._disk_errors,
                last_error=self._last_error,
                files_opened=self._files_opened,
                path=self._path,
            )

    def _enqueue(self, line: LogLine) -> bool:
        share = 1.0 if is_severe(line) else 1.0 - self._limits.reserve
        size = weight(line)
        fits = (
            not self._closing
            and len(self._queue) < self._limits.queue_lines_max * share
            and self._queued_bytes + size <= self._limits.queue_bytes_max * share
        )
        if not fits:
            self._dropped[_bucket(line)] += 1
            if self._closing:  # nobody is left to write a report
                self._reported[_bucket(line)] += 1
            return False
        self._queue.append(line)
        self._queued_bytes += size
        return True

    # -------------------------------------------------------------------------------------------- the writer thread

    def _run(self) -> None:
        try:
            self._write_until_closed()
        finally:
            self._store.close()
            with self._changed:
                self._changed.notify_all()

    def _write_until_closed(self) -> None:
        while self._await_work():
            with self._changed:
                batch = list(islice(self._queue, self._limits.batch_lines_max))  # taken out only when committed
                missing = self._dropped - self._reported
            try:
                refused = self._append(batch, missing)
            except Exception as error:  # noqa: BLE001 - whatever the disk does, logging goes on
                self._store.close()
                if not self._note_failure(error):
                    return
            else:
                self._note_success(batch, missing, refused)

    def _await_work(self) -> bool:
        """Wait until there is something to write, and after an error also until it is time to try again."""
        with self._changed:
            if self._failures_in_row:
                wait_s = min(self._limits.retry_s_max, self._limits.retry_s_min * 2 ** min(self._failures_in_row - 1, 20))
                self._changed.wait_for(lambda: self._retry_now or self._closing, wait_s)
            self._changed.wait_for(lambda: self._queue or self._dropped != self._reported or self._closing)
            self._retry_now = False
            return bool(self._queue or self._dropped != self._reported)

    def _append(self, batch: list[LogLine], missing: Counter[str]) -> int:
        now_us = self._clock.now_us()
        report = []
        if missing:
            origin = LogLine(timestamp=now_us, level="warning", service="logs", event_type="")
            report = [dropped_line(origin, dict(missing), "the queue of the log service was full")]
        return self._store.append(batch + report, now_us)

    def _note_success(self, batch: list[LogLine], missing: Counter[str], refused: int) -> None:
        with self._changed:
            for line in batch[: len(self._queue)]:  # a `close` that could not wait has emptied it
                self._queue.popleft()
                self._queued_bytes -= weight(line)
            self._settled += len(batch)
            self._written += len(batch) - refused
            self._refused += refused
            self._reported += missing
            self._failures_in_row = 0
            self._last_error = None
            self._path, self._files_opened = self._store.path, self._store.files_opened
            self._changed.notify_all()

    def _note_failure(self, error: Exception) -> bool:
        """Whether to try again: for ever, but not often once the service is closing, since closing must end."""
        with self._changed:
            self._disk_errors += 1
            self._failures_in_row += 1
            self._last_error = f"{type(error).__name__}: {error}"
            self._path = None
            return not self._closing or self._failures_in_row < _ATTEMPTS_WHEN_CLOSING


def _bucket(line: LogLine) -> str:
    return line.service if line.service in SERVICES else "logs"
