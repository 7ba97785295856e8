"""Many small writes, one commit: who holds the write lock commits for everybody who waits for it.

There is no thread of its own: of the threads that want to write, the first to get the lock takes all queued writes into
one transaction, and the others find theirs done. A write that fails is undone alone (its savepoint); a commit that fails
fails all of its writes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

T = TypeVar("T")
GROUP_MAX: Final = 256


class _Write:
    """One queued write, then its outcome."""

    __slots__ = ("done", "error", "name", "result", "work")

    def __init__(self, name: str, work: Callable[[Connection], object]) -> None:
        self.name = name
        self.work = work
        self.result: object = None
        self.error: BaseException | None = None
        self.done = False


class GroupCommit:
    """Runs writes in shared transactions.

    Args:
        transaction: Opens a write transaction that commits when its block ends.
        is_lost: Whether an error of one write has taken the whole transaction with it.
        observe: Told the names of the writes and the milliseconds of each transaction.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[Connection]],
        is_lost: Callable[[Connection, Exception], bool],
        observe: Callable[[str, float], None],
    ) -> None:
        self._transaction = transaction
        self._is_lost = is_lost
        self._observe = observe
        self._queue: deque[_Write] = deque()
        self._lock = threading.Lock()

    def run(self, name: str, work: Callable[[Connection], T]) -> T:
        """The result of this write, once it is committed; its own error, or that of the commit."""
        write = _Write(name, work)
        self._queue.append(write)
        while not write.done:
            with self._lock:
                if not write.done:
                    self._commit([self._queue.popleft() for _ in range(min(len(self._queue), GROUP_MAX))])
        if write.error is not None:
            raise write.error
        return cast("T", write.result)

    def _commit(self, group: list[_Write]) -> None:
        began = time.perf_counter()
        failure: BaseException | None = None
        try:
            with self._transaction() as connection:
                for write in group:
                    self._attempt(write, connection)
        except BaseException as error:
            failure = error
            if not isinstance(error, Exception):  # an interrupt belongs to this thread; the others learn of the lost commit
                raise
        finally:
            for write in group:
                write.error = failure or write.error
                write.done = True
        names = ", ".join(sorted({write.name for write in group}))
        self._observe(f"{names} ({len(group)})" if len(group) > 1 else names, (time.perf_counter() - began) * 1000)

    def _attempt(self, write: _Write, connection: Connection) -> None:
        try:
            with connection.begin_nested():
                write.result = write.work(connection)
        except Exception as error:
            write.error = error
            if self._is_lost(connection, error):
                raise  # the earlier writes of this group are lost, too
