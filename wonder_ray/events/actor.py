"""The event service as a Ray actor: named `events`, detached, restarted for ever; every method may be called again.

>>> events = get_or_create("/data/storage")  # doctest: +SKIP
>>> ray.get(events.open.remote(run_id, 1))  # doctest: +SKIP
OpenReply(mark=0, sealed=0, trace_mark=0, trace_sealed=0, boundaries=[])
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wonder_ray.ids import NAMESPACE
from wonder_ray.keeper import Keeper
from wonder_ray.presence import Presence
from wonder_ray.settings import Retention

# Whoever gets a handle of an actor imports its module: what the service itself needs (pyarrow) is imported where it runs.
if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.events.news import News
    from wonder_ray.events.query import EventRow, TraceRow
    from wonder_ray.events.sealing import EventSettings
    from wonder_ray.events.service import EventService, EventStats
    from wonder_ray.events.wire import Ack, EventBatch, OpenReply, Stream
    from wonder_ray.logs.client import LogClient

ACTOR_NAME: Final = "events"
MAX_CONCURRENCY: Final = 1000
REGISTRY_SECONDS: Final = 60.0


class EventActor:
    """Hosts one `EventService`; errors reach the caller as the `WonderError` that they are.

    Args:
        storage: The storage folder, the same on every node that this actor may run on.
        instance: See `EventService`.
        settings: See `EventSettings`.
        namespace: Of all named actors.
        retention: How long events are kept; without it nothing is removed or compacted.
    """

    def __init__(
        self,
        storage: str,
        instance: int | None = None,
        settings: EventSettings | None = None,
        namespace: str = NAMESPACE,
        retention: Retention | None = None,
    ) -> None:
        self._storage = Path(storage)
        self._namespace = namespace
        self._retention = retention
        self._keeper: Keeper | None = None
        self._instance = instance
        self._settings = settings
        self._log = _log_client()
        self._presence = Presence(ACTOR_NAME, storage, namespace)
        self._service: EventService | None = None
        self._starting = threading.Lock()

    async def open(self, run_id: str, epoch: int, new: bool = False) -> OpenReply:  # noqa: FBT001, FBT002 - Ray passes it on
        """Fence older senders of a run off; see `EventService.open`."""
        return await asyncio.wrap_future((await self._started()).open_soon(run_id, epoch, new=new))

    async def append(self, batches: list[EventBatch]) -> list[Ack]:
        """Store batches; answered when they are durable. `ServiceUnavailableError` when too much is waiting."""
        return await asyncio.wrap_future((await self._started()).submit_soon(batches))

    async def flush(self, run_id: str | None = None) -> OpenReply | None:
        """Wait until all that was acknowledged is in finished files; with a run, its marks after that."""
        service = await self._started()
        await asyncio.wrap_future(service.flush_soon())
        if run_id is None:
            return None
        return await asyncio.wrap_future(service.marks_soon(run_id))

    async def marks(self, run_id: str) -> OpenReply:
        """What is held of a run, without fencing anybody."""
        return await asyncio.wrap_future((await self._started()).marks_soon(run_id))

    async def read(
        self, run_id: str, after: int = 0, limit: int | None = None, stream: Stream = "events"
    ) -> list[EventRow] | list[TraceRow]:
        """The rows of a run after a sequence number; see `EventReader.read`."""
        return await asyncio.to_thread(self._read, run_id, after, limit, stream)

    def _read(self, run_id: str, after: int, limit: int | None, stream: Stream) -> list[EventRow] | list[TraceRow]:
        from wonder_ray.events.query import EventReader

        reader = EventReader(self._storage)
        return reader.read(run_id, after, limit) if stream == "events" else reader.read_trace(run_id, after, limit)

    async def news(self, wanted: list[tuple[str, int]]) -> list[News]:
        """The runs of `(run, after)` that have more events, with the next ones; see `news.news`."""
        await self._started()
        return await asyncio.to_thread(self._news, wanted)

    def _news(self, wanted: list[tuple[str, int]]) -> list[News]:
        from wonder_ray.events.layout import EventLayout
        from wonder_ray.events.news import news

        return news(EventLayout(self._storage), wanted)

    async def stats(self) -> EventStats:
        """What the service is doing."""
        return (await self._started()).stats()

    async def ping(self) -> dict[str, Any]:
        """Proof of life, once it has recovered: which storage and instance this is, its place and its epoch."""
        return self._presence.tell(instance=(await self._started()).instance)

    async def close(self) -> None:
        """Seal everything and let go of the storage; before the actor is killed on purpose."""
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.stop)
        if self._service is not None:
            await asyncio.to_thread(self._service.close)

    async def _started(self) -> EventService:
        """The service; started by the first call, so that a storage that cannot be used is told to every caller."""
        service = self._service
        return service if service is not None else await asyncio.to_thread(self._start)

    def _start(self) -> EventService:
        from wonder_ray.events.service import EventService

        with self._starting:
            if self._service is None:
                self._service = EventService(
                    self._storage, instance=self._instance, settings=self._settings, on_fatal=self._end_process
                )
                number = self._service.instance
                self._log.info("events_opened", f"instance {number} of the event service", instance=number)
                self._keeper = self._start_keeper()
            return self._service

    def _start_keeper(self) -> Keeper:
        """Begin with what a crash has left: readers that know nothing of us wait for it."""
        every_s = self._retention.every_s if self._retention is not None else 0
        keeper = Keeper(
            "wonder-event-keeper", self._maintain, every_s=every_s, on_error=self._maintenance_failed, at_start=self._recover
        )
        keeper.start()
        return keeper

    def _recover(self) -> None:
        from wonder_ray.events.maintenance import Maintenance

        if left := Maintenance(self._storage).recover():
            self._log.warning("swaps_finished", f"{left} days were half replaced when the last service ended, and are whole now")

    def _maintain(self, stopping: Callable[[], bool]) -> None:
        from wonder_ray.events.maintenance import Maintenance

        report = Maintenance(self._storage, retention=self._retention).run(self._live_runs(), stopping=stopping)
        if report.removed or report.compacted:
            said = f"{len(report.removed)} days of events removed, {len(report.compacted)} compacted"
            self._log.info("events_maintained", said, deleted_runs=report.deleted_runs)
        for problem in report.problems:
            self._log.warning("events_not_maintained", problem)

    def _maintenance_failed(self, error: Exception) -> None:
        self._log.error("events_maintenance_failed", f"{type(error).__name__}: {error}", error=error)

    def _live_runs(self) -> set[str] | None:
        """Every run that is not over; None when the registry does not tell."""
        try:
            registry = ray.get_actor("resources", namespace=self._namespace)
            return {run.run_id for run in ray.get(registry.unfinished.remote(), timeout=REGISTRY_SECONDS)}
        except (ValueError, ray.exceptions.RayError):
            return None

    def _end_process(self, error: BaseException) -> None:
        """After an I/O error no later success can be believed: Ray starts a successor, which recovers from what is on disk."""
        self._log.critical("storage_failed", f"the event service ends its process: {error}", error=error)
        self._log.flush(1.0)
        os.kill(os.getpid(), signal.SIGKILL)


def get_or_create(
    storage: Path | str,
    *,
    instance: int | None = None,
    settings: EventSettings | None = None,
    retention: Retention | None = None,
    **options: Any,
) -> Any:
    """The handle of the cluster's event service, which is created if there is none; Ray must be initialised.

    `instance`, `settings` and `retention` (by default what the environment says) are used only by the one call that creates it.
    `options` are Ray's, such as another `name` or
    `namespace`, or the `scheduling_strategy` of the node with the disk, which is by default the caller's.
    """
    chosen = _defaults() | options
    actor_class = ray.remote(EventActor).options(**chosen)
    kept = retention or Retention.from_environment()
    return actor_class.remote(str(Path(storage).absolute()), instance, settings, chosen["namespace"], kept)


def _defaults() -> dict[str, Any]:
    return {
        "name": ACTOR_NAME,
        "namespace": NAMESPACE,
        "max_concurrency": MAX_CONCURRENCY,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False),
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,  # a retried call would run twice, in another order; callers send again
    }


def _log_client() -> LogClient:
    """The way to the log service, for this actor and for what its modules tell `logging`."""
    from wonder_ray.logs.actor import remote_sender
    from wonder_ray.logs.client import LogClient, LogHandler

    client = LogClient(remote_sender(), "events")
    logging.getLogger("wonder_ray").addHandler(LogHandler(client))
    return client
