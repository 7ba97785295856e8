"""The thread that turns committed rows into files: by size, by age, and when somebody asks.

>>> Flusher(layout, sealer, adopter, transact, EventSettings(), (0, 0)).request().result()  # doctest: +SKIP
"""

from __future__ import annotations

import logging
import math
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, NamedTuple

from wonder_ray.errors import ServiceUnavailableError
from wonder_ray.events.claiming import refresh_elsewhere

if TYPE_CHECKING:
    from wonder_ray.events.adoption import Adopter
    from wonder_ray.events.layout import EventLayout
    from wonder_ray.events.sealing import EventSettings, Sealer, Transact

ADOPT_INTERVAL_S: Final = 60.0
RETRY_WAIT_S: Final = 5.0
"""After files could not be written (the disk is full, say)."""

_log = logging.getLogger(__name__)


class Progress(NamedTuple):
    """What the flusher has done since it started."""

    flushes: int
    rows: int
    error: str | None


class Flusher:
    """Decides when to seal.

    Args:
        layout: The storage.
        sealer: For the instance's own log.
        adopter: For the logs of dead instances.
        transact: How to write to the own log.
        settings: Sizes and intervals.
        unsealed: `(rows, bytes)` that lie in the log at the start.
    """

    def __init__(
        self,
        layout: EventLayout,
        sealer: Sealer,
        adopter: Adopter,
        transact: Transact,
        settings: EventSettings,
        unsealed: tuple[int, int],
    ) -> None:
        self._layout = layout
        self._sealer = sealer
        self._adopter = adopter
        self._transact = transact
        self._settings = settings
        self._changed = threading.Condition()
        self._rows, self._bytes = unsealed
        self._oldest_s = -math.inf if self._rows else math.inf  # nobody knows for how long those have waited
        self._requests: list[Future[None]] = []
        self._last_s = -math.inf
        self._adopted_s = -math.inf
        self._not_before_s = -math.inf
        self._must_recover = True
        self._stopping = False
        self._progress = Progress(0, 0, None)
        self._thread = threading.Thread(target=self._run, name="wonder-event-flush", daemon=True)

    def start(self) -> None:
        """Begin, with what a crash has left."""
        self._thread.start()

    def stop(self, *, flush: bool) -> None:
        """End the thread; with `flush` after a last flush of everything."""
        done = self.request() if flush and self._thread.is_alive() else None
        self.halt()
        if self._thread.ident is not None:
            self._thread.join()
        if done is not None:
            done.result()

    def halt(self) -> None:
        """End the thread after what it does now, and what was requested; do not wait for it."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def request(self) -> Future[None]:
        """A future that is done when all rows committed by now are in finished files."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        with self._changed:
            if self._stopping:
                future.set_exception(ServiceUnavailableError("the event service is closing; its successor seals the rest"))
            else:
                self._requests.append(future)
                self._changed.notify_all()
        return future

    def note_rows(self, rows: int, size: int) -> None:
        """Rows were committed."""
        with self._changed:
            self._rows, self._bytes = self._rows + rows, self._bytes + size
            is_first = self._oldest_s == math.inf
            self._oldest_s = min(self._oldest_s, time.monotonic())
            if is_first or self._is_large():
                self._changed.notify_all()

    def unsealed(self) -> tuple[int, int]:
        """`(rows, bytes)` that are committed and not sealed."""
        with self._changed:
            return self._rows, self._bytes

    def progress(self) -> Progress:
        """What was done since the start."""
        with self._changed:
            return self._progress

    def _run(self) -> None:
        try:
            while True:
                requests = self._wait()
                if self._stopping and not requests:
                    return
                self._attempt(requests)
        finally:
            with self._changed:
                self._stopping = True
                left, self._requests = self._requests, []
            _answer(left, ServiceUnavailableError("the event service has stopped; its successor seals the rest"))

    def _wait(self) -> list[Future[None]]:
        """Wait until something is due; who has asked for it."""
        with self._changed:
            while not self._stopping and (wait_s := self._due_s() - time.monotonic()) > 0:
                self._changed.wait(wait_s)
            requests, self._requests = self._requests, []
            return requests

    def _due_s(self) -> float:
        due = min(self._oldest_s + self._settings.flush_age_s, self._adopted_s + ADOPT_INTERVAL_S)
        if self._requests:
            due = min(due, self._last_s + self._settings.flush_interval_s)
        if self._is_large():
            due = -math.inf
        return max(due, self._not_before_s)

    def _is_large(self) -> bool:
        return self._rows >= self._settings.flush_rows or self._bytes >= self._settings.flush_bytes

    def _attempt(self, requests: list[Future[None]]) -> None:
        self._last_s = time.monotonic()
        try:
            self._flush(everything=bool(requests) or self._oldest_s + self._settings.flush_age_s <= self._last_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rows are safe in the log, and it is tried again
            _log.warning("events stay in the commit log, writing their files failed: %s", error)
            self._must_recover = True  # a plan may be open, and its batches must not be planned twice
            self._not_before_s = time.monotonic() + RETRY_WAIT_S
            with self._changed:
                self._progress = self._progress._replace(error=f"{type(error).__name__}: {error}")
            _answer(requests, error)
        except BaseException as error:
            _answer(requests, ServiceUnavailableError(f"the event service has stopped: {error!r}"))
            raise
        else:
            _answer(requests, None)

    def _flush(self, *, everything: bool) -> None:
        began_s = time.monotonic()
        if self._must_recover:
            self._note_sealed(*self._sealer.recover())
            self._must_recover = False
        if everything:
            self._note_sealed(*self._sealer.seal_all())
        elif self._is_large():
            self._note_sealed(*self._sealer.seal_oldest())
        with self._changed:
            if everything:
                self._oldest_s = began_s if self._rows else math.inf
            self._progress = Progress(self._progress.flushes + 1, self._progress.rows, None)
        if began_s >= self._adopted_s + ADOPT_INTERVAL_S:
            self._adopt()
            self._adopted_s = began_s
        self._transact(lambda log: refresh_elsewhere(log, self._layout))

    def _note_sealed(self, rows: int, size: int) -> None:
        with self._changed:
            self._rows, self._bytes = self._rows - rows, self._bytes - size
            self._progress = self._progress._replace(rows=self._progress.rows + rows)

    def _adopt(self) -> None:
        try:
            for name in self._adopter.adopt_all():
                _log.info("took over the commit log %s of an event service that is gone", name)
        except Exception as error:  # noqa: BLE001 - a log that cannot be read must not stop the others
            _log.warning("the log of a dead event service could not be taken over: %s", error)


def _answer(requests: list[Future[None]], error: Exception | None) -> None:
    for request in requests:
        if error is None:
            request.set_result(None)
        else:
            request.set_exception(error)
