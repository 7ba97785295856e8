"""The registry as a Ray actor: named `resources`, detached, free of CPU, restarted for ever.

Ray retries no call (it might run it twice); every method may be repeated by its caller. Starts that wait for the disk at the
same time share a commit; reads have threads of their own and never queue behind writes.

Example:
    resources = get_or_create("/var/lib/wonder")
    try:
        run, created = ray.get(resources.start_run.remote(StartRequest(workflow_name="crawl", key="monday")))
    except ray.exceptions.RayError as error:
        raise unwrap(error) from None
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wonder_ray.errors import ServiceUnavailableError, StorageError, WonderError
from wonder_ray.ids import NAMESPACE
from wonder_ray.logs.actor import remote_sender
from wonder_ray.logs.client import LogClient
from wonder_ray.presence import Presence
from wonder_ray.resources.records import DEFAULT_WORKSPACE
from wonder_ray.storage.layout import Layout

# Whoever gets a handle of an actor imports its module: what the service itself needs (SQLAlchemy) is imported where it runs.
if TYPE_CHECKING:
    from wonder_ray.resources.records import DefinitionRecord, RunPage, RunProjection, RunRecord, StartRequest

ACTOR_NAME: Final = "resources"
_GROUPS: Final = {"write": 32, "read": 4}


class ResourcesActor:
    """What runs in the actor: a `ResourcesService` on the file of a storage folder; see there for every method."""

    def __init__(self, storage: str, namespace: str = NAMESPACE) -> None:
        from wonder_ray.resources.service import ResourcesService

        self._log = LogClient(remote_sender(namespace), "resources")
        self._service = ResourcesService(Layout(storage).resources, log=self._log, on_io_error=self._crash)
        epoch = self._service.take_service_epoch(ACTOR_NAME)
        self._presence = Presence(ACTOR_NAME, storage, namespace, epoch=epoch)

    def _crash(self) -> None:
        self._log.error("db_error", "the disk failed a write: this process ends, and Ray starts another")
        self._log.flush(1.0)
        os._exit(1)

    @ray.method(concurrency_group="write")
    def put_definition(self, definition: bytes, workspace_id: str = DEFAULT_WORKSPACE) -> str:
        """Register a workflow; its version."""
        return self._service.put_definition(definition, workspace_id=workspace_id)

    @ray.method(concurrency_group="write")
    def start_run(self, request: StartRequest) -> tuple[RunRecord, bool]:
        """Create a queued run, or find the one that this request created before."""
        return self._service.start_run(request)

    @ray.method(concurrency_group="write")
    def take_epoch(self, run_id: str, known: int, placement: dict[str, Any] | None) -> int:
        """A new epoch for a run's coordinator."""
        return self._service.take_epoch(run_id, known, placement)

    @ray.method(concurrency_group="write")
    def report(self, run_id: str, epoch: int, projection: RunProjection) -> bool:
        """Note what a run's coordinator reports."""
        return self._service.report(run_id, epoch, projection)

    @ray.method(concurrency_group="write")
    def release_placement(self, run_id: str, epoch: int) -> bool:
        """Note that the coordinator of this epoch is gone."""
        return self._service.release_placement(run_id, epoch)

    @ray.method(concurrency_group="write")
    def take_service_epoch(self, name: str) -> int:
        """The next instance number of a service."""
        return self._service.take_service_epoch(name)

    @ray.method(concurrency_group="read")
    def get_definition(self, name: str, version: str | None = None, workspace_id: str = DEFAULT_WORKSPACE) -> DefinitionRecord:
        """One version of a workflow, by default the latest."""
        return self._service.get_definition(name, version, workspace_id=workspace_id)

    @ray.method(concurrency_group="read")
    def list_definitions(self, workspace_id: str = DEFAULT_WORKSPACE, name: str | None = None) -> list[DefinitionRecord]:
        """The versions of workflows."""
        return self._service.list_definitions(workspace_id=workspace_id, name=name)

    @ray.method(concurrency_group="read")
    def get_run(self, ref: str, workspace_id: str = DEFAULT_WORKSPACE) -> RunRecord:
        """The run with this id, or whose id alone begins so, or the `latest`."""
        return self._service.get_run(ref, workspace_id=workspace_id)

    @ray.method(concurrency_group="read")
    def find_run(self, key: str, workspace_id: str = DEFAULT_WORKSPACE) -> RunRecord | None:
        """The run that was started with this key, if any."""
        return self._service.find_run(key, workspace_id=workspace_id)

    @ray.method(concurrency_group="read")
    def list_runs(self, **filters: Any) -> RunPage:
        """Runs of a workspace, newest first."""
        return self._service.list_runs(**filters)

    @ray.method(concurrency_group="read")
    def unfinished(self) -> list[RunRecord]:
        """All runs that no coordinator has reported as ended."""
        return self._service.unfinished()

    @ray.method(concurrency_group="read")
    def ping(self) -> dict[str, Any]:
        """Proof of life: which storage this is, its place and its epoch."""
        return self._presence.tell()


def get_or_create(storage: str, *, namespace: str = NAMESPACE, node_id: str | None = None) -> Any:
    """The handle of the cluster's registry, which is started if there is none. Safe to call from many places at once.

    Args:
        storage: The storage folder, as a path on the actor's node. An actor that is there already keeps its own: see `ping`.
        namespace: Of the actor.
        node_id: The node whose disk holds `storage`, by default the caller's. The actor runs there or nowhere: elsewhere it
            would find an empty folder, and deny that any run exists.
    """
    node = node_id or ray.get_runtime_context().get_node_id()
    actor_class = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0, concurrency_groups=_GROUPS)(ResourcesActor)
    options = {
        "name": ACTOR_NAME,
        "namespace": namespace,
        "lifetime": "detached",
        "get_if_exists": True,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=False),
    }
    return actor_class.options(**options).remote(storage, namespace)


def unwrap(error: BaseException) -> BaseException:
    """What a failed call meant: the `WonderError` raised in the actor, or a `ServiceUnavailableError` when the actor is away.

    Any other error is returned as it is.
    """
    cause = getattr(error, "cause", None)
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(cause, WonderError):
        return cause
    if isinstance(error, (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError)):
        return ServiceUnavailableError(f"the registry (actor {ACTOR_NAME!r}) did not answer: {error}; the call may be repeated")
    return error


def why_dead(service: str, error: BaseException) -> WonderError:
    """What the constructor of a service raised, which Ray tells as a text that ends in it."""
    last = str(error).strip().rpartition("\n")[2]
    marker = f"{StorageError.__module__}.{StorageError.__name__}: "
    if last.startswith(marker):
        return StorageError(last.removeprefix(marker))
    return ServiceUnavailableError(f"the service {service!r} dies as often as it is started: {last}")
