"""The directory: it starts coordinators, and they all belong to it.

Ray lends the worker processes of one detached actor's tasks to no other one's. So a coordinator is no detached actor of its
own: as the directory's child it finds the workers of earlier runs warm, which saves each run about 0.7 s and a process per CPU.

Nothing here is the truth: when the directory dies, its coordinators die with it, and its successor starts again those that the
registry says lived in this cluster, and every run that was queued and never begun.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wonder_ray.bundles.store import BundleStore
from wonder_ray.coordinator.actor import start
from wonder_ray.ids import NAMESPACE
from wonder_ray.keeper import Keeper
from wonder_ray.logs.actor import remote_sender
from wonder_ray.logs.client import LogClient
from wonder_ray.presence import Presence
from wonder_ray.settings import Retention
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wonder_ray.resources.records import RunRecord

ACTOR_NAME: Final = "directory"
CALL_SECONDS: Final = 60.0
PING_SECONDS: Final = 10.0
SWEEP_SECONDS_FIRST: Final = 1.0
SWEEP_SECONDS_LAST: Final = 30.0


class DirectoryActor:
    """Starts the coordinators of one storage folder, each once.

    Args:
        storage: The storage folder, on this node.
        namespace: Of all named actors.
        everything: Whether to start, at the beginning, every run that has not ended: what a cluster that was lost left behind.
        retention: How long the files of runs that are over are kept; without it for ever.
    """

    def __init__(
        self, storage: str, namespace: str = NAMESPACE, *, everything: bool = False, retention: Retention | None = None
    ) -> None:
        context = ray.get_runtime_context()
        self._storage = storage
        self._namespace = namespace
        self._address = context.gcs_address
        self._node_id = context.get_node_id()
        self._everything = everything
        self._log = LogClient(remote_sender(namespace), "coordinator")
        self._presence = Presence(ACTOR_NAME, storage, namespace)
        self._changing = threading.Lock()  # guards the two below
        self._live: dict[str, Any] = {}
        """Run -> the handle of its coordinator; Ray ends an actor that nobody holds a handle of."""
        self._given_up: set[str] = set()
        """Runs whose coordinator could not go on: they wait for somebody who asks for them."""
        threading.Thread(target=self._watch, name="directory-watch", daemon=True).start()
        self._retention = retention or Retention(every_s=0)
        Keeper("directory-keeper", self._keep, every_s=self._retention.every_s, on_error=self._not_kept).start()

    def activate(self, run_id: str, dead: str | None = None) -> Any:
        """The handle of a run's coordinator, which is started if there is none; `dead` is the id of one that has died."""
        with self._changing:
            self._given_up.discard(run_id)
            return self._activate(run_id, dead)

    def forget(self, run_id: str, actor_id: str, over: bool) -> None:  # noqa: FBT001 - Ray passes it on
        """End a coordinator that wants to end: its run is over, or it cannot go on."""
        with self._changing:
            handle = self._live.get(run_id)
            if handle is None or _id(handle) != actor_id:
                return
            del self._live[run_id]
            if not over:
                self._given_up.add(run_id)
        ray.kill(handle, no_restart=True)

    def read_bundle(self, sha256: str) -> bytes:
        """The code of a workflow, for executors on nodes that do not have the storage folder."""
        return BundleStore(self._storage).read(sha256)

    def holds_bundle(self, sha256: str) -> bool:
        """Whether the storage folder has this code."""
        return BundleStore(self._storage).path(sha256).is_file()

    def write_bundle(self, data: bytes) -> str:
        """Keep the code of a workflow, from a driver on a node that does not have the storage folder; its sha256."""
        return BundleStore(self._storage).put(data)

    def ping(self) -> dict[str, Any]:
        """Proof of life: which storage this is, its place and epoch, and how many coordinators live."""
        return self._presence.tell(live=len(self._live))

    def _activate(self, run_id: str, dead: str | None = None) -> Any:
        handle = self._live.get(run_id)
        if handle is None or _id(handle) == dead:
            handle = self._live[run_id] = start(run_id, self._storage, namespace=self._namespace, node_id=self._node_id)
        return handle

    def _watch(self) -> None:
        pause = SWEEP_SECONDS_FIRST
        while True:
            try:
                self._sweep()
            except Exception as error:  # noqa: BLE001 - services that are starting, or away: the next sweep may succeed
                self._log.info("directory_sweep_failed", f"{type(error).__name__}: {error}")
            time.sleep(pause)
            pause = min(2 * pause, SWEEP_SECONDS_LAST)

    def _sweep(self) -> None:
        """Start what should live and does not."""
        self._drop_the_dead()
        registry = ray.get_actor("resources", namespace=self._namespace)
        unfinished = ray.get(registry.unfinished.remote(), timeout=CALL_SECONDS)
        for run in filter(self._is_mine, unfinished):
            with self._changing:
                if run.run_id not in self._live and run.run_id not in self._given_up:
                    whose = {"trace_id": run.run_id, "workspace_id": run.workspace_id, "project_id": run.project_id}
                    self._log.info("run_activated", "it should run and did not", **whose)
                    self._activate(run.run_id)
        self._everything = False

    def _keep(self, stopping: Callable[[], bool]) -> None:
        """Remove the files of runs that have been over for long."""
        from wonder_ray.coordinator.keeping import keep

        kept = keep(Layout(self._storage), self._retention, self._records, stopping=stopping)
        if kept.removed:
            self._log.info("run_files_removed", f"{len(kept.removed)} files of runs that are over, {kept.size} bytes")
        for problem in kept.problems:
            self._log.warning("run_files_not_removed", problem)

    def _records(self, run_ids: Sequence[str]) -> list[RunRecord]:
        registry = ray.get_actor("resources", namespace=self._namespace)
        found: list[RunRecord] = []
        for ref in [registry.get_run.remote(run_id) for run_id in run_ids]:
            with suppress(ray.exceptions.RayTaskError):  # a run of another registry
                found.append(ray.get(ref, timeout=CALL_SECONDS))
        return found

    def _not_kept(self, error: Exception) -> None:
        self._log.warning("run_files_not_removed", f"{type(error).__name__}: {error}")

    def _is_mine(self, run: RunRecord) -> bool:
        return self._everything or run.epoch == 0 or (run.placement or {}).get("address") == self._address

    def _drop_the_dead(self) -> None:
        asked = [(run_id, handle, handle.ping.remote()) for run_id, handle in list(self._live.items())]
        deadline = time.monotonic() + PING_SECONDS
        for run_id, handle, ref in asked:
            try:
                ray.get(ref, timeout=max(0.0, deadline - time.monotonic()))
            except ray.exceptions.ActorDiedError:
                with self._changing:
                    if self._live.get(run_id) is handle:
                        del self._live[run_id]
            except ray.exceptions.RayError:
                continue  # it is starting, or busy


def _id(handle: Any) -> str:
    return str(handle._actor_id.hex())  # noqa: SLF001 - Ray has no public name for it


def get_or_create(
    storage: str, *, namespace: str = NAMESPACE, everything: bool = False, node_id: str | None = None,
    retention: Retention | None = None,
) -> Any:  # fmt: skip
    """The handle of the cluster's directory, which is started if there is none. Safe to call from many places at once.

    Args:
        storage: The storage folder.
        namespace: Of the actor.
        everything: See `DirectoryActor`.
        node_id: The node whose disk holds `storage`, by default the caller's; the coordinators run there, too.
        retention: See `DirectoryActor`; by default what the environment says.
    """
    kept = retention or Retention.from_environment()
    actor_class = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=4)(DirectoryActor)
    return actor_class.options(**_options(namespace, node_id)).remote(storage, namespace, everything=everything, retention=kept)


def _options(namespace: str, node_id: str | None) -> dict[str, Any]:
    node = node_id or ray.get_runtime_context().get_node_id()
    return {
        "name": ACTOR_NAME,
        "namespace": namespace,
        "lifetime": "detached",
        "get_if_exists": True,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=False),
    }
