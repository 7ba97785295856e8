"""A bounded queue of work for the one thread that owns the commit log.

>>> queue = WorkQueue(bytes_max=1 << 20)
>>> future = queue.put(Work(size=10, batches=[]), wait_s=0)
>>> [work.size for work in queue.take(bytes_max=1 << 20)]
[10]
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from wonder_ray.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.events.claiming import Claim
    from wonder_ray.events.commit_log import CommitLog
    from wonder_ray.events.wire import EventBatch


class Work:
    """One request, of one of three kinds, and its answer to be: batches to append, a run to claim, a write to the log."""

    __slots__ = ("batches", "claim", "future", "size", "tries", "write")

    def __init__(
        self,
        size: int = 0,
        *,
        batches: list[EventBatch] | None = None,
        claim: Claim | None = None,
        write: Callable[[CommitLog], object] | None = None,
    ) -> None:
        self.size = size
        self.batches = batches
        self.claim = claim
        self.write = write
        self.tries = 0
        self.future: Future[Any] = Future()
        self.future.set_running_or_notify_cancel()  # who stops waiting does not undo the work, nor break its answer


class WorkQueue:
    """First in, first out; bounded by the bytes in it.

    Args:
        bytes_max: More than this is not taken in, unless the queue is empty.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._items: deque[Work] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, work: Work, wait_s: float | None) -> Future[Any]:
        """The future of a piece of work, once there is room; `ServiceUnavailableError` when there is none in time."""
        with self._changed:
            roomy = self._changed.wait_for(lambda: self._closed or self._fits(work), wait_s)
            if self._closed:
                raise ServiceUnavailableError("the event service is closing; send again to its successor")
            if not roomy:
                msg = f"the event service has {self._bytes >> 20} MB waiting to be committed; send again in a moment"
                raise ServiceUnavailableError(msg)
            self._items.append(work)
            self._bytes += work.size
            self._changed.notify_all()
        return work.future

    def take(self, bytes_max: int) -> list[Work]:
        """The oldest work, waiting for some; empty when the queue is closed and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items)
            taken: list[Work] = []
            size = 0
            while self._items and (not taken or size + self._items[0].size <= bytes_max):
                taken.append(self._items.popleft())
                size += taken[-1].size
            self._bytes -= size
            self._changed.notify_all()
        return taken

    def close(self) -> None:
        """Take nothing more in; what is in still comes out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def waiting(self) -> tuple[int, int]:
        """`(requests, bytes)` in the queue."""
        with self._changed:
            return len(self._items), self._bytes

    def _fits(self, work: Work) -> bool:
        return self._bytes == 0 or work.size == 0 or self._bytes + work.size <= self._bytes_max
