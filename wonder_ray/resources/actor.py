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
import threading
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wonder_ray.errors import ServiceUnavailableError, StorageError, WonderError
from wonder_ray.ids import NAMESPACE
from wonder_ray.logs.actor import remote_sender
from wonder_ray.logs.client import LogClient
from wonder_ray.presence import Presence
from wonder_ray.resources.place import ENVIRONMENT_VARIABLE as PLACE_VARIABLE
from wonder_ray.resources.records import DEFAULT_WORKSPACE
from wonder_ray.storage.layout import Layout

# Whoever gets a handle of an actor imports its module: what the service itself needs (SQLAlchemy) is imported where it runs.
if TYPE_CHECKING:
    from wonder_ray.resources.access_records import ApiKeyRecord, Identity, NewApiKey, SecretGrant, SecretRecord
    from wonder_ray.resources.records import (
        BundleContent,
        BundleRecord,
        DefinitionPage,
        DefinitionRecord,
        ProjectRecord,
        RunPage,
        RunProjection,
        RunRecord,
        StartRequest,
        WorkspaceRecord,
    )
    from wonder_ray.resources.service import ResourcesService

ACTOR_NAME: Final = "resources"
_GROUPS: Final = {"write": 32, "read": 4, "admit": 16}


class ResourcesActor:
    """What runs in the actor: a `ResourcesService` on the registry of a storage folder; see there for every method.

    Args:
        storage: The storage folder, on this node.
        namespace: Of all named actors.
        place: Where the registry lives: see `resources_place`.
    """

    def __init__(self, storage: str, namespace: str = NAMESPACE, place: str | None = None) -> None:
        self._storage = storage
        self._place = place
        self._log = LogClient(remote_sender(namespace), "resources")
        self._opening = threading.Lock()
        self._opened: ResourcesService | None = None
        epoch = None
        try:
            epoch = self._open().take_service_epoch(ACTOR_NAME)
        except ServiceUnavailableError as error:  # a server that is away may come back: each call looks again
            self._log.error("db_error", str(error), request="open", error=error)
        self._presence = Presence(ACTOR_NAME, storage, namespace, epoch=epoch)

    @property
    def _service(self) -> ResourcesService:
        return self._opened or self._open()

    def _open(self) -> ResourcesService:
        from wonder_ray.resources.opening import open_service

        with self._opening:
            if self._opened is None:
                self._opened = open_service(Layout(self._storage), self._place, log=self._log, on_io_error=self._crash)
            return self._opened

    def _crash(self) -> None:
        self._log.error("db_error", "the disk failed a write: this process ends, and Ray starts another")
        self._log.flush(1.0)
        os._exit(1)

    # --- definitions and runs --------------------------------------------------------------------------------------------

    @ray.method(concurrency_group="write")
    def put_bundle(self, sha256: str, content: BundleContent, workspace_id: str = DEFAULT_WORKSPACE) -> bool:
        """Register a code bundle."""
        return self._service.put_bundle(sha256, content, workspace_id=workspace_id)

    @ray.method(concurrency_group="write")
    def put_definition(self, definition: bytes, workspace_id: str = DEFAULT_WORKSPACE) -> str:
        """Register a workflow; its version."""
        return self._service.put_definition(definition, workspace_id=workspace_id)

    @ray.method(concurrency_group="write")
    def start_run(self, request: StartRequest) -> tuple[RunRecord, bool]:
        """Create a queued run, or find the one that this request created before."""
        return self._service.start_run(request)

    @ray.method(concurrency_group="write")
    def take_epoch(self, run_id: str, known: int, placement: dict[str, Any] | None, expected: int | None = None) -> int:
        """A new epoch for a run's coordinator."""
        return self._service.take_epoch(run_id, known, placement, expected=expected)

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
    def get_bundle(self, sha256: str, workspace_id: str = DEFAULT_WORKSPACE) -> BundleRecord:
        """What a registered code bundle holds."""
        return self._service.get_bundle(sha256, workspace_id=workspace_id)

    @ray.method(concurrency_group="read")
    def get_definition(self, name: str, version: str | None = None, workspace_id: str = DEFAULT_WORKSPACE) -> DefinitionRecord:
        """One version of a workflow, by default the latest."""
        return self._service.get_definition(name, version, workspace_id=workspace_id)

    @ray.method(concurrency_group="read")
    def list_definitions(self, **asked: Any) -> DefinitionPage:
        """The versions of workflows, newest first."""
        return self._service.list_definitions(**asked)

    @ray.method(concurrency_group="read")
    def get_run(self, ref: str, workspace_id: str | None = None) -> RunRecord:
        """The run with this id, or whose id alone begins so, or the `latest`."""
        return self._service.get_run(ref, workspace_id=workspace_id)

    @ray.method(concurrency_group="read")
    def find_run(self, key: str, workspace_id: str = DEFAULT_WORKSPACE) -> RunRecord | None:
        """The run that was started with this key, if any."""
        return self._service.find_run(key, workspace_id=workspace_id)

    @ray.method(concurrency_group="read")
    def list_runs(self, **asked: Any) -> RunPage:
        """Runs of a workspace, newest first."""
        return self._service.list_runs(**asked)

    @ray.method(concurrency_group="read")
    def unfinished(self) -> list[RunRecord]:
        """All runs that no coordinator has reported as ended."""
        return self._service.unfinished()

    # --- workspaces and projects -----------------------------------------------------------------------------------------

    @ray.method(concurrency_group="write")
    def create_workspace(self, workspace_id: str, description: str = "") -> WorkspaceRecord:
        """A new workspace."""
        return self._service.create_workspace(workspace_id, description=description)

    @ray.method(concurrency_group="write")
    def update_workspace(self, workspace_id: str, **changes: Any) -> WorkspaceRecord:
        """Change a workspace."""
        return self._service.update_workspace(workspace_id, **changes)

    @ray.method(concurrency_group="write")
    def delete_workspace(self, workspace_id: str) -> None:
        """Remove an empty workspace."""
        self._service.delete_workspace(workspace_id)

    @ray.method(concurrency_group="read")
    def get_workspace(self, workspace_id: str) -> WorkspaceRecord:
        """A workspace."""
        return self._service.get_workspace(workspace_id)

    @ray.method(concurrency_group="read")
    def list_workspaces(self) -> list[WorkspaceRecord]:
        """All workspaces."""
        return self._service.list_workspaces()

    @ray.method(concurrency_group="write")
    def create_project(self, project_id: str, workspace_id: str = DEFAULT_WORKSPACE, description: str = "") -> ProjectRecord:
        """A new project."""
        return self._service.create_project(project_id, workspace_id=workspace_id, description=description)

    @ray.method(concurrency_group="write")
    def update_project(self, project_id: str, description: str, workspace_id: str = DEFAULT_WORKSPACE) -> ProjectRecord:
        """Change a project."""
        return self._service.update_project(project_id, workspace_id=workspace_id, description=description)

    @ray.method(concurrency_group="write")
    def delete_project(self, project_id: str, workspace_id: str = DEFAULT_WORKSPACE) -> None:
        """Remove a project without runs."""
        self._service.delete_project(project_id, workspace_id=workspace_id)

    @ray.method(concurrency_group="read")
    def get_project(self, project_id: str, workspace_id: str = DEFAULT_WORKSPACE) -> ProjectRecord:
        """A project."""
        return self._service.get_project(project_id, workspace_id=workspace_id)

    @ray.method(concurrency_group="read")
    def list_projects(self, workspace_id: str = DEFAULT_WORKSPACE) -> list[ProjectRecord]:
        """The projects of a workspace."""
        return self._service.list_projects(workspace_id=workspace_id)

    # --- API keys and secrets --------------------------------------------------------------------------------------------

    @ray.method(concurrency_group="admit")
    def authorize(self, token: str, **asked: Any) -> Identity:
        """Who sends this API key, if it is good for this, and has requests left."""
        return self._service.authorize(token, **asked)

    @ray.method(concurrency_group="write")
    def create_api_key(self, name: str, scopes: tuple[str, ...], **options: Any) -> NewApiKey:
        """A new API key."""
        return self._service.create_api_key(name, tuple(scopes), **options)

    @ray.method(concurrency_group="write")
    def rotate_api_key(self, key_id: str, **options: Any) -> NewApiKey:
        """A new token for an API key."""
        return self._service.rotate_api_key(key_id, **options)

    @ray.method(concurrency_group="write")
    def revoke_api_key(self, key_id: str) -> ApiKeyRecord:
        """End an API key."""
        return self._service.revoke_api_key(key_id)

    @ray.method(concurrency_group="read")
    def get_api_key(self, key_id: str) -> ApiKeyRecord:
        """An API key, without its token."""
        return self._service.get_api_key(key_id)

    @ray.method(concurrency_group="read")
    def list_api_keys(self, workspace_id: str | None = DEFAULT_WORKSPACE) -> list[ApiKeyRecord]:
        """The API keys of a workspace."""
        return self._service.list_api_keys(workspace_id=workspace_id)

    @ray.method(concurrency_group="write")
    def put_secret(self, name: str, **what: Any) -> SecretRecord:
        """Make a secret, or change it."""
        return self._service.put_secret(name, **what)

    @ray.method(concurrency_group="write")
    def delete_secret(self, name: str, workspace_id: str = DEFAULT_WORKSPACE) -> None:
        """Remove a secret."""
        self._service.delete_secret(name, workspace_id=workspace_id)

    @ray.method(concurrency_group="write")
    def reseal_secrets(self) -> int:
        """Encrypt stored secrets with the newest master key."""
        return self._service.reseal_secrets()

    @ray.method(concurrency_group="read")
    def get_secret(self, name: str, workspace_id: str = DEFAULT_WORKSPACE) -> SecretRecord:
        """A secret, without its value."""
        return self._service.get_secret(name, workspace_id=workspace_id)

    @ray.method(concurrency_group="read")
    def list_secrets(self, workspace_id: str = DEFAULT_WORKSPACE) -> list[SecretRecord]:
        """The secrets of a workspace, without their values."""
        return self._service.list_secrets(workspace_id=workspace_id)

    @ray.method(concurrency_group="admit")
    def grant_secret(self, run_id: str, name: str) -> SecretGrant:
        """For executors: a secret that a run may use."""
        return self._service.grant_secret(run_id, name)

    @ray.method(concurrency_group="read")
    def ping(self) -> dict[str, Any]:
        """Proof of life: which storage and registry this is, its place and its epoch."""
        return self._presence.tell(resources=None if self._opened is None else self._opened.place)


def get_or_create(storage: str, *, namespace: str = NAMESPACE, node_id: str | None = None, place: str | None = None) -> Any:
    """The handle of the cluster's registry, which is started if there is none. Safe to call from many places at once.

    Args:
        storage: The storage folder, as a path on the actor's node. An actor that is there already keeps its own: see `ping`.
        namespace: Of the actor.
        node_id: The node whose disk holds `storage`, by default the caller's. The actor runs there or nowhere: elsewhere it
            would find an empty folder, and deny that any run exists.
        place: A `postgresql://` URL, when the registry is not in the folder; by default `$WONDER_RESOURCES_URL`.
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
    return actor_class.options(**options).remote(storage, namespace, place or os.environ.get(PLACE_VARIABLE))


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
