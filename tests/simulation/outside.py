"""The outside of one coordinator: its file, its way to the event service, the registry and the log; watched, and failing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.chance import between
from tests.simulation.violations import Crash, require
from wonder_ray.storage.memory import MemoryDisk, MemoryRunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.simulation.sites import Process, Site
    from wonder_ray.events.wire import Ack, EventBatch
    from wonder_ray.storage.records import TurnRecord

MS: Final = 1_000


class WatchedStore(MemoryRunStore):
    """The memory store, whose commits are looked at the moment they are durable."""

    def __init__(self, disk: MemoryDisk, process: Process) -> None:
        self._process = process
        self._record: TurnRecord | None = None
        self._crash_after = False
        super().__init__(disk, fault=self._at)

    def commit(self, record: TurnRecord) -> None:
        """Store one turn."""
        self._record = record
        super().commit(record)
        self._record = None

    def _at(self, where: str) -> None:
        world = self._process.site.world
        if where == "after commit":
            if self._record is not None:
                self._process.committed(self._record)
            if self._crash_after:
                world.note("crash_after_commit")
                raise Crash
            return
        for fault in world.strike("write"):
            if fault.kind == "crash_before_commit":
                world.note(fault.kind)
                raise Crash
            if fault.kind == "disk_error":
                world.note(fault.kind)
                self._process.may_fail = True
                msg = "I/O error"
                raise OSError(msg)
            self._crash_after = True


class Sink:
    """A process's way to the event service: slow, and with losses."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._sent = 0

    def append(self, batch: EventBatch, on_ack: Callable[[Ack], None], on_error: Callable[[Exception], None]) -> None:
        """Send one batch."""
        site, world, seed = self._process.site, self._world, self._world.plan.seed
        self._sent += 1
        site.check_published(batch)
        name = (site.run_id, self._process.number, self._sent)
        there_us, back_us = between(seed, 1, 30, "there", *name) * MS, between(seed, 1, 30, "back", *name) * MS
        struck = {fault.kind for fault in world.strike("append")}
        for kind in sorted(struck):
            world.note(kind)
        if "ack_late" in struck:
            back_us += between(seed, 200, 20_000, "ack", *name) * MS
        if "events_down" in struck:
            world.events.down_until_us = world.now_us + between(seed, 500, 30_000, "down", *name) * MS
        if "events_disk_lost" in struck:
            world.events.lose_disk()

        def arrive() -> None:
            if "events_unreachable" in struck or not world.events.is_up(world.now_us):
                world.after(back_us, lambda: on_error(ConnectionError("the event service does not answer")))
                return
            ack = world.events.append(batch)
            if "ack_lost" in struck:
                world.after(back_us, lambda: on_error(TimeoutError("no answer")))
                return
            for nth in range(2 if "ack_doubled" in struck else 1):
                world.after(back_us * (nth + 1), lambda: on_ack(ack))

        world.after(there_us, arrive)
        if "batch_doubled" in struck:
            world.after(there_us * 40, lambda: world.events.append(batch))

    def flush(self) -> None:
        """Seal what is there."""
        self._world.events.seal()


class Projection:
    """The registry's view of the run: never ahead of what is committed."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def report(self, projection: Mapping[str, Any]) -> None:
        """Take a report."""
        run = self._site.disk.run
        status = None if run is None else msgspec.json.decode(run)["status"]
        require(status == projection["status"], "I1", f"{projection['status']} was reported, and {status} is committed")
        self._site.reported = str(projection["status"])


class NoLog:
    """Log lines that nobody reads."""

    def info(self, event_type: str, message: str, **fields: Any) -> None:
        """Something that operators may want to know."""

    warning = error = info
