"""The outbox on its way to the EventService: in order, one batch of a stream at a time, resent until it is acknowledged.

Rows stay in the run's file until they are sealed in a finished Parquet file; a mark lower than before (the service lost its
disk) makes the shipper go back and send again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wonder_ray.errors import HistoryConflictError, StaleEpochError
from wonder_ray.events.wire import Ack, EventBatch, OpenReply, RunInfo, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.coordinator.ports import EventSink
    from wonder_ray.storage.store import RunStore

BATCH_ROWS: Final = 10_000
SHIP_EVERY_US: Final = 100_000
"""Fewer rows than a batch wait this long for company: a chain of short steps would else cost a call and a sync per step."""
RETRY_FIRST_US: Final = 100_000
RETRY_LAST_US: Final = 5_000_000
BACKLOG_ROWS: Final = 200_000
"""Rows not yet acknowledged at which no further task is dispatched."""


class Shipper:
    """Ships one stream of one run."""

    def __init__(
        self,
        stream: Stream,
        run: RunInfo,
        epoch: int,
        store: RunStore,
        sink: EventSink,
        post: Callable[[Shipped], None],
        opened: OpenReply,
    ) -> None:
        self.stream: Stream = stream
        self.mark = opened.mark if stream == "events" else opened.trace_mark
        self._sealed = opened.sealed if stream == "events" else opened.trace_sealed
        self.run = run
        self._epoch = epoch
        self._store = store
        self._sink = sink
        self._post = post
        self._last = self.mark
        self._number = 0
        """Of the batch that was sent last."""
        self._under_way = False
        self._failures = 0
        self._next_us = 0
        """Before this time only whole batches are sent (or, after an error, none)."""

    def committed(self, last: int) -> None:
        """Rows up to `last` have been committed."""
        self._last = max(self._last, last)

    @property
    def backlog(self) -> int:
        """Committed rows that are not acknowledged."""
        return self._last - self.mark

    @property
    def due_us(self) -> int | None:
        """When `ship` has something to do; None while it has not, or waits for an answer."""
        return self._next_us if self.backlog and not self._under_way else None

    def ship(self, now_us: int, *, urgent: bool = False) -> None:
        """Send the next batch, if there is one and none is under way; small ones only when due, or when it is urgent."""
        if self._under_way or not self.backlog:
            return
        hurry = not self._failures and (urgent or self.backlog >= BATCH_ROWS)
        if now_us < self._next_us and not hurry:
            return
        rows = self._store.outbox(self.stream, self.mark, BATCH_ROWS)
        if not rows:
            return
        self._under_way = True
        self._number += 1
        self._next_us = now_us + SHIP_EVERY_US
        lines = b"\n".join(line for _, _, line in rows)
        batch = EventBatch(self.run, self.stream, self._epoch, rows[0][0], rows[-1][0], lines)
        stream, number = self.stream, self._number
        self._sink.append(
            batch,
            lambda ack: self._post(Shipped(stream, ack, None, number)),
            lambda error: self._post(Shipped(stream, None, error, number)),
        )

    def answered(self, answer: Shipped, now_us: int) -> None:
        """Take an answer; raises when this coordinator has been fenced off, or when histories conflict.

        An answer that comes twice is one to a batch that is under way no more: its mark may be higher than what is held since.
        """
        if not self._under_way or answer.number != self._number:
            return
        self._under_way = False
        ack = answer.ack
        if ack is None:
            self._failures += 1
            self._next_us = now_us + min(RETRY_FIRST_US << min(self._failures, 16), RETRY_LAST_US)
            return
        if ack.outcome == "stale":
            raise StaleEpochError(f"run {self.run.workflow_run_id}: epoch {self._epoch} has been fenced off: {ack.message}")
        if ack.outcome in {"conflict", "invalid"}:
            raise HistoryConflictError(f"run {self.run.workflow_run_id}: the event service refused a batch: {ack.message}")
        self._failures = 0
        self.mark = ack.mark
        if ack.sealed > self._sealed:
            self._sealed = ack.sealed
            self._store.forget(self.stream, ack.sealed)


class Shipped:
    """The answer to one batch: an acknowledgement, or the error that kept it from being one."""

    def __init__(self, stream: Stream, ack: Ack | None, error: Exception | None, number: int) -> None:
        self.stream: Stream = stream
        self.ack = ack
        self.error = error
        self.number = number
        """Of the batch, among those of its shipper."""
