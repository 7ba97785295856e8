"""The event service, without Ray: acknowledged means durable, and every event comes into a Parquet file exactly once.

Two threads: the log writer commits what is in the queue (`log_writer.py`), the flusher turns committed rows into files
(`sealing.py`) and finishes the logs of dead instances (`adoption.py`).

>>> with EventService(Path("storage")) as service:  # doctest: +SKIP
...     service.open(run_id, epoch=1)
...     service.submit([EventBatch(run, "events", 1, 1, 2, lines)])
...     service.flush(run_id)
OpenReply(mark=0, sealed=0, trace_mark=0, trace_sealed=0, boundaries=[])
[Ack(run_id='run_...', stream='events', mark=2, sealed=0, outcome='ok', message='')]
OpenReply(mark=2, sealed=2, trace_mark=0, trace_sealed=0, boundaries=[(1, 1)])
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

import msgspec

from wonder_ray.clock import SystemClock
from wonder_ray.errors import StorageError
from wonder_ray.events.adoption import Adopter
from wonder_ray.events.claiming import Claim
from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.flusher import Flusher
from wonder_ray.events.layout import EventLayout, LogLock, instance_of, no_failpoint
from wonder_ray.events.log_writer import LogWriter
from wonder_ray.events.sealing import EventSettings, Sealer
from wonder_ray.events.work_queue import Work, WorkQueue
from wonder_ray.ids import check_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from wonder_ray.clock import Clock
    from wonder_ray.events.wire import Ack, EventBatch, OpenReply

T = TypeVar("T")

LOCK_WAIT_S: Final = 30.0
"""How long a restarted instance waits for its predecessor's process to let go of the log."""


class EventStats(msgspec.Struct, frozen=True):
    """What the service is doing."""

    instance: int
    rows_unsealed: int
    bytes_unsealed: int
    rows_sealed: int
    """Since this process started."""
    commits: int
    requests_waiting: int
    bytes_waiting: int
    flushes: int
    flush_error: str | None
    """Why the last attempt to write files failed; it is repeated."""


class EventService:
    """Takes batches of events, and keeps them.

    Args:
        storage: The storage folder; local, since SQLite's locks and syncs must be real.
        instance: The number of this service, unique on the storage; by default that of a log whose owner is gone, else a
            new one.
        clock: For the times in the log.
        settings: Sizes and intervals.
        failpoint: Called with the name of each step (`layout.FAILPOINTS`); tests make it raise.
        on_fatal: Called when the log has failed and the process should end (its successor recovers).
    """

    def __init__(
        self,
        storage: Path | str,
        *,
        instance: int | None = None,
        clock: Clock | None = None,
        settings: EventSettings | None = None,
        failpoint: Callable[[str], None] = no_failpoint,
        on_fatal: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        settings = settings or EventSettings()
        clock = clock or SystemClock()
        self.layout = EventLayout(Path(storage))
        self.layout.create()
        self.instance, self._lock = _take_lock(self.layout, instance)
        self._on_fatal = on_fatal
        self._ending = threading.Lock()
        self._ended = False
        path = self.layout.log_path(self.instance)
        try:
            self._log = CommitLog.own(path)
        except BaseException:
            self._lock.release()
            raise
        self._queue = WorkQueue(settings.queue_bytes)
        sealer = Sealer(self.layout, path, self._transact, settings, clock, failpoint)
        adopter = Adopter(self.layout, path, self._transact, settings, clock, failpoint)
        self._flusher = Flusher(self.layout, sealer, adopter, self._transact, settings, self._log.unsealed()[:2])
        self._writer = LogWriter(
            self._log,
            self.layout,
            self._queue,
            group_bytes=settings.group_bytes,
            clock=clock,
            failpoint=failpoint,
            on_rows=self._flusher.note_rows,
            on_fatal=self._stop_flushing,
        )
        try:
            self._writer.start()
        except BaseException:
            self._release()
            raise
        self._flusher.start()

    def open(self, run_id: str, epoch: int, *, new: bool = False) -> OpenReply:
        """Fence older senders of a run off, durably, and tell what is held of it.

        Args:
            run_id: The run.
            epoch: The sender's; the same one may open again.
            new: The run has just been created, so that no other instance needs to be asked.

        Raises:
            StaleEpochError: A newer epoch has opened the run.
            ServiceUnavailableError: Try again.
        """
        return self.open_soon(run_id, epoch, new=new).result()

    def open_soon(self, run_id: str, epoch: int, *, new: bool = False) -> Future[OpenReply]:
        """`open` as a future."""
        return self._queue.put(Work(claim=Claim(check_run_id(run_id), epoch, new)), None)

    def submit(self, batches: Sequence[EventBatch], *, wait_s: float | None = None) -> list[Ack]:
        """Store batches, and answer each once it is durable. Waits `wait_s` (for ever) for room in the queue."""
        return cast("list[Ack]", self._put_batches(batches, wait_s).result())

    def submit_soon(self, batches: Sequence[EventBatch]) -> Future[list[Ack]]:
        """`submit` as a future; a `ServiceUnavailableError` at once when the queue is full."""
        return self._put_batches(batches, 0)

    def marks(self, run_id: str) -> OpenReply:
        """What is held of a run, without fencing anybody."""
        return self.marks_soon(run_id).result()

    def marks_soon(self, run_id: str) -> Future[OpenReply]:
        """`marks` as a future."""
        return self._queue.put(Work(write=lambda log: log.marks(run_id)), None)

    def flush(self, run_id: str | None = None) -> OpenReply | None:
        """Wait until all that was acknowledged before is in finished files; with a run, its marks after that.

        Flushes are shared: at most one a second begins, for everybody who has asked by then.
        """
        self.flush_soon().result()
        return self.marks(run_id) if run_id is not None else None

    def flush_soon(self) -> Future[None]:
        """`flush` as a future."""
        return self._flusher.request()

    def stats(self) -> EventStats:
        """What the service is doing."""
        rows, size = self._flusher.unsealed()
        requests, waiting = self._queue.waiting()
        done = self._flusher.progress()
        return EventStats(self.instance, rows, size, done.rows, self._writer.commits, requests, waiting, done.flushes, done.error)

    def close(self) -> None:
        """Answer what is waiting, seal everything, and let go of the log; rows that cannot be sealed stay in it.

        May be called again.
        """
        self._end(flush=True)

    def abandon(self) -> None:
        """Let go of the log without sealing anything more: what is left is what a killed process leaves."""
        self._end(flush=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, *, flush: bool) -> None:
        with self._ending:
            if self._ended:
                return
            self._ended = True
            try:
                self._flusher.stop(flush=flush)
            finally:
                self._queue.close()
                self._writer.join()
                self._release()

    def _release(self) -> None:
        self._log.close()
        self._lock.release()

    def _put_batches(self, batches: Sequence[EventBatch], wait_s: float | None) -> Future[Any]:
        batches = list(batches)
        for batch in batches:
            check_run_id(batch.run.workflow_run_id)
        return self._queue.put(Work(sum(len(batch.lines) for batch in batches), batches=batches), wait_s)

    def _stop_flushing(self, error: BaseException) -> None:
        self._flusher.halt()
        self._on_fatal(error)

    def _transact(self, work: Callable[[CommitLog], T], /) -> T:
        return cast("T", self._queue.put(Work(write=work), None).result())


def _take_lock(layout: EventLayout, instance: int | None) -> tuple[int, LogLock]:
    if instance is not None:
        return instance, _wait_for_lock(layout, instance)
    numbers = [instance_of(path) for path in layout.logs()]
    for number in (*reversed(numbers), *range(max(numbers, default=0) + 1, max(numbers, default=0) + 1000)):
        if lock := LogLock.try_acquire(layout.log_path(number)):
            return number, lock
    msg = f"{layout.log_dir}: a thousand event services hold their logs; stop some"
    raise StorageError(msg)


def _wait_for_lock(layout: EventLayout, instance: int) -> LogLock:
    give_up = time.monotonic() + LOCK_WAIT_S
    path = layout.log_path(instance)
    while (lock := LogLock.try_acquire(path)) is None:
        if time.monotonic() > give_up:
            msg = f"{path} is held by another live process: two event services have the number {instance}; stop one of them"
            raise StorageError(msg)
        time.sleep(0.05)  # the kernel tells nobody when a lock becomes free
    return lock
