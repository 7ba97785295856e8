"""Child runs, simulated: they are started, watched and told to end by messages that are lost and doubled on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.chance import between
from tests.simulation.violations import require
from wonder_ray.planning.facts import ChildEnded, ChildStarted
from wonder_ray.state import ErrorRecord

if TYPE_CHECKING:
    from tests.simulation.sites import Process, Site
    from wonder_ray.state import Child

MS: Final = 1_000


class SimulatedChildren:
    """What one coordinator knows of its child runs; it dies with it, and the next one asks again."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.site.world
        self._told: set[str] = set()
        self._asked = 0

    def follow(self, child: Child, *, depth: int, compensate: bool) -> None:
        """See to it that a child run exists, and ends where that is wanted; tell its end."""
        require(child.id in self._process.site.children, "I1", f"child run {child.id} is asked for, and is not committed")
        self._asked += 1
        world = self._world
        child = msgspec.structs.replace(child)
        name = ("child", child.id, self._process.number, self._asked)
        struck = {fault.kind for fault in world.strike("child")}
        for kind in sorted(struck):
            world.note(kind)
        wait_us = between(world.plan.seed, 1, 200, *name) * MS
        if "child_request_lost" in struck:
            wait_us += between(world.plan.seed, 200, 3_000, "lost", *name) * MS
        world.after(wait_us, lambda: self._see_to(child, depth, compensate=compensate, doubled="child_message_doubled" in struck))

    def _see_to(self, child: Child, depth: int, *, compensate: bool, doubled: bool) -> None:
        if self._process.is_dead:
            return
        site = self._world.child_site(self._process.site, child, depth)
        if site is None:
            error = ErrorRecord("WorkflowNotFound", f"no workflow {child.workflow!r}", retryable=False, kind="child")
            self._process.post(ChildEnded(child_id=child.id, status="failed", error=error))
            return
        for _ in range(2 if doubled else 1):
            self._process.post(ChildStarted(child_id=child.id, version="v"))
        if child.cancelled is not None:
            self._world.stop_child(site, child.cancelled, compensate=compensate)
        if child.id not in self._told:
            self._told.add(child.id)
            site.when_ended(lambda: self._tell_end(site, doubled=doubled))

    def _tell_end(self, site: Site, *, doubled: bool) -> None:
        status, metadata = site.auditor.ended or ("", None)
        told: dict[str, Any] = msgspec.json.decode(metadata) if metadata else {}
        error = msgspec.convert(told["error"], ErrorRecord) if "error" in told else None
        for _ in range(2 if doubled else 1):
            self._process.post(ChildEnded(child_id=site.run_id, status=status, output=told.get("output"), error=error))
