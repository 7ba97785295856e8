"""The thread that runs one coordinator: it owns the file, drains the mailbox into turns, and never awaits inside one.

Everything else (the Ray actor, callbacks of tasks and services) only posts messages. When a turn raises, the process is to
end: memory may then be ahead of the file, and the next coordinator goes on from what is committed.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.coordinator.messages import Command, Message, Query, Snapshot, Wake
from wonder_ray.coordinator.opening import Ports, open_coordinator
from wonder_ray.errors import ServiceUnavailableError, StorageError, WonderError
from wonder_ray.logs.context import log_context
from wonder_ray.storage.lock import RunLock, read_holder
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wonder_ray.coordinator.coordinator import Coordinator
    from wonder_ray.definitions.graph import Graph
    from wonder_ray.planning.facts import Fact
    from wonder_ray.run_state import RunState
    from wonder_ray.storage.layout import Layout
    from wonder_ray.storage.store import RunStore

DRAIN_MAX: Final = 10_000
IDLE_SECONDS: Final = 3600.0
LOCK_SECONDS: Final = 15.0
"""How long to wait for the lock: a predecessor that was killed is gone in less."""
LOCK_PAUSE_SECONDS: Final = 0.05


class CoordinatorHost:
    """Runs one coordinator until its run has ended and everything about it is told.

    Args:
        run_id: The run.
        layout: The storage folder.
        ports: The outside.
        placement: What the lock file and the registry are told about where this is.
        on_exit: Called on the thread when it is over: with None, or with the error that ended it.
        lock_seconds: How long to wait for the file's lock.
    """

    def __init__(
        self,
        run_id: str,
        layout: Layout,
        ports: Callable[[CoordinatorHost], Ports],
        placement: Mapping[str, Any],
        on_exit: Callable[[BaseException | None], None],
        *,
        lock_seconds: float = LOCK_SECONDS,
    ) -> None:
        self.run_id = run_id
        self.layout = layout
        self.placement = dict(placement)
        self.snapshot: Snapshot | None = None
        self.ended: Future[Snapshot] = Future()
        """Done once the run has its terminal event, committed."""
        self._ports = ports
        self._on_exit = on_exit
        self._lock_seconds = lock_seconds
        self._mailbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=f"coordinator-{run_id}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def post(self, message: Message) -> None:
        """Put a message into the mailbox; from any thread."""
        self._mailbox.put(message)

    def command(self, fact: Fact, *, key: str | None = None) -> Future[dict[str, Any]]:
        """Post a fact; the future is done after its turn has committed."""
        answer: Future[dict[str, Any]] = Future()
        self.post(Command(fact=fact, reply=functools.partial(_settle, answer), key=key))
        return answer

    def query(self, ask: Callable[[RunState, Graph], Any]) -> Future[Any]:
        """Post a question about the state."""
        answer: Future[Any] = Future()
        self.post(Query(ask, functools.partial(_settle, answer)))
        return answer

    def _main(self) -> None:
        error: BaseException | None = None
        with contextlib.ExitStack() as marked:
            marked.enter_context(log_context(run_id=self.run_id))
            try:
                self._run(marked)
            except BaseException as raised:  # noqa: BLE001 - reported, and the process ends
                error = raised
                if not self.ended.done():
                    self.ended.set_exception(raised)
            self._answer_the_rest(error)
            self._on_exit(error)

    def _run(self, marked: contextlib.ExitStack) -> None:
        ports = self._ports(self)
        ports.log.info("coordinator_started", message=f"process {self.placement.get('pid')}", placement=self.placement)
        lock = self._lock()
        try:
            with SqliteRunStore(self.layout.run_file(self.run_id)) as store:
                self._carry_out(store, ports, lock, marked)
        finally:
            lock.release()
        ports.log.info("coordinator_finished", message="the run has ended, and its history is safe")

    def _carry_out(self, store: RunStore, ports: Ports, lock: RunLock, marked: contextlib.ExitStack) -> None:
        coordinator, first = open_coordinator(store, ports, str(self.layout.root), self.post)
        marked.enter_context(log_context(workspace_id=coordinator.run.workspace_id, project_id=coordinator.run.project_id))
        self.placement["epoch"] = coordinator.snapshot.epoch
        lock.update(self.placement)
        coordinator.handle([Command(fact=fact, reply=lambda _answer: None) for fact in first])
        coordinator.follow_children()
        if not coordinator.ended:
            coordinator.report()
        self._loop(coordinator, ports)
        store.checkpoint()

    def _lock(self) -> RunLock:
        """The right to run this run here; a process that was stopped, not killed, keeps it."""
        lock = RunLock(self.layout.lock_file(self.run_id))
        deadline = time.monotonic() + self._lock_seconds
        while not lock.try_acquire(self.placement):
            if time.monotonic() > deadline:
                holder = read_holder(lock.path) or {}
                msg = (
                    f"run {self.run_id} is run by another coordinator on this machine: process {holder.get('pid', 'unknown')} "
                    f"holds {lock.path}. If it hangs, end it and resume the run, which goes on from its last commit"
                )
                raise StorageError(msg)
            time.sleep(LOCK_PAUSE_SECONDS)  # the kernel tells nobody when a lock becomes free
        return lock

    def _answer_the_rest(self, error: BaseException | None) -> None:
        """Nobody drains the mailbox any more: callers hear why, where it would be the same the next time."""
        why = error if isinstance(error, WonderError) else None
        for message in self._waiting_messages():
            if isinstance(message, (Command, Query)):
                message.reply(why or ServiceUnavailableError(f"the coordinator of run {self.run_id} is ending; ask again"))

    def _loop(self, coordinator: Coordinator, ports: Ports) -> None:
        self._publish(coordinator)
        while not coordinator.finished:
            coordinator.handle(self._drain(coordinator, ports))
            self._publish(coordinator)
        late = self._waiting_messages()
        if late:  # of an ended run: the first answer to a key comes again, all else is refused
            coordinator.handle(late)

    def _publish(self, coordinator: Coordinator) -> None:
        self.snapshot = coordinator.snapshot
        if coordinator.ended and not self.ended.done():
            self.ended.set_result(coordinator.snapshot)

    def _drain(self, coordinator: Coordinator, ports: Ports) -> list[Message]:
        """Wait for a message or the next alarm, then take all that has come."""
        wake_us = coordinator.next_wake_us()
        seconds = IDLE_SECONDS if wake_us is None else max(0.0, (wake_us - ports.clock.now_us()) / 1_000_000)
        try:
            messages = [self._mailbox.get(timeout=min(seconds, IDLE_SECONDS))]
        except queue.Empty:
            return [Wake()]
        return messages + self._waiting_messages(DRAIN_MAX - 1)

    def _waiting_messages(self, most: int = DRAIN_MAX) -> list[Message]:
        """What has come, without waiting for more."""
        messages: list[Message] = []
        with contextlib.suppress(queue.Empty):
            while len(messages) < most:
                messages.append(self._mailbox.get_nowait())
        return messages


def _settle(answer: Future[Any], value: Any) -> None:
    if isinstance(value, Exception):
        answer.set_exception(value)
    else:
        answer.set_result(value)
