"""Connecting to a cluster (or starting a local Ray), starting runs, and finding them."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, cast

import ray

from wonder_ray.addresses import check_ray_version, check_reachable
from wonder_ray.analytics.events import Events
from wonder_ray.bundles.imports import refuse_while_importing
from wonder_ray.bundles.store import BundleStore
from wonder_ray.client.runs import Run
from wonder_ray.clock import SystemClock
from wonder_ray.errors import ServiceUnavailableError, StorageError, WonderError
from wonder_ray.given import encoded_input
from wonder_ray.ids import NAMESPACE, new_run_id
from wonder_ray.logs.query import LogReader
from wonder_ray.presence import mark_of
from wonder_ray.registration import in_environment, put_definition, register
from wonder_ray.remote.client import connect as connect_to_api
from wonder_ray.remote.client import is_url
from wonder_ray.resources.administration import Administration, remote_administration
from wonder_ray.resources.records import DEFAULT_PROJECT, DEFAULT_WORKSPACE, StartRequest
from wonder_ray.services import Services
from wonder_ray.storage.layout import Layout
from wonder_ray.values import decode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.logs.record import Level, LogLine, Service
    from wonder_ray.resources.records import RunRecord

ACTIVATE_SECONDS: Final = 5.0
FLUSH_SECONDS: Final = 30.0
RAY_AUTH_MODE: Final = "RAY_AUTH_MODE"


def connect(
    address: str | None = None,
    *,
    storage: str | Path | None = None,
    workspace: str | None = None,
    project: str = DEFAULT_PROJECT,
    ray_options: Mapping[str, Any] | None = None,
    api_key: str | None = None,
) -> Client:
    """A client of the cluster at `address`; without one, of the Ray that is initialised here, else of a new local one.

    Args:
        address: A Ray address (`auto`, `host:port`, `ray://...`), or where `wonder serve` serves (`http://host:port`): the client
            then needs no Ray, and has the same methods.
        storage: The storage folder; by default `$WONDER_STORAGE`, else `~/.wonder/storage`.
        workspace: Where runs are started and looked for; `client.admin.create_workspace` makes others. By default `default`, over
            HTTP that of the API key.
        project: The part of the workspace that runs are started in.
        ray_options: More arguments for `ray.init`.
        api_key: For the API over HTTP; by default `$WONDER_API_KEY`.

    Raises:
        WonderError: Nothing listens at the address.
        StorageError: The folder cannot be used; nothing was started.

    Example:
        >>> with connect(storage="./data") as client:  # doctest: +SKIP
        ...     client.start(flow, {"n": 3}).result()
    """
    refuse_while_importing("connects to Ray")
    if address is not None and is_url(address):
        if storage is not None or ray_options:
            raise WonderError(f"{address} has its own storage and Ray: leave storage and ray_options out")
        return cast("Client", connect_to_api(address, api_key=api_key, workspace=workspace, project=project))
    if api_key is not None:
        raise WonderError("an api_key is for the API over HTTP: connect to its http://host:port")
    started = not ray.is_initialized()
    if started:
        check_reachable(address or os.environ.get("RAY_ADDRESS"))
    layout = Layout(storage).prepare()
    local = init_ray(address, dict(ray_options or {})) if started else False
    try:
        return Client(layout, owns_ray=started, local=local, workspace=workspace or DEFAULT_WORKSPACE, project=project)
    except BaseException:
        if started:
            ray.shutdown()
        raise


def init_ray(address: str | None, options: dict[str, Any]) -> bool:
    """Connect to a cluster, or start a local Ray that asks for its token; whether it is that.

    Raises:
        WonderError: The Ray that is installed is too old to be safe.
    """
    check_ray_version()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
    if address is None and "RAY_ADDRESS" not in os.environ:
        quiet["include_dashboard"] = False
        quiet["address"] = "local"
    elif address is not None:
        quiet["address"] = address
    chosen = quiet | options
    if chosen.get("address") == "local":
        ask_for_the_token()
    ray.init(**chosen)
    if not chosen["log_to_driver"]:  # else what raylets report comes on stdout all the same, among what the script prints
        ray._private.worker._worker_logs_enabled = False  # noqa: SLF001 - no public way
    return bool(chosen.get("address") == "local")


def ask_for_the_token() -> None:
    """See to it that a local Ray takes only who has its token, whatever this version does by itself; `disabled` is left alone."""
    if RAY_AUTH_MODE not in os.environ:
        os.environ[RAY_AUTH_MODE] = "token"
        ray._raylet.Config.initialize("")  # noqa: SLF001 - it has read the environment when it was imported


class Client:
    """Starts runs and finds them; use it as a context manager, so that a local Ray it started is stopped again.

    Attributes:
        storage: The paths of the storage folder.
        workspace: Where runs are started and looked for.
        project: Where in it they are started.
        events: The events of all runs in SQL: `events.sql(...)`, `events.report(...)`.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        owns_ray: bool = False,
        local: bool = False,
        workspace: str = DEFAULT_WORKSPACE,
        project: str = DEFAULT_PROJECT,
    ) -> None:
        self.storage = layout
        self.workspace = workspace
        self.project = project
        self.events = Events(layout.root, before=self.flush)
        self._owns_ray = owns_ray
        root = str(layout.root)
        self._services = Services(root, local=local)
        found = self._services.call("resources", "ping")
        if found["storage"] != root:
            msg = f"the cluster's services keep their data in {found['storage']!r}, not in {root!r}; connect with that storage"
            raise WonderError(msg)
        self._host = found["host"]
        self._here = found["folder"] == mark_of(layout.root)
        """Whether the folder is the services' own, and not one of the same name on another node."""
        if not self._here:
            self.events = Events(layout.root, before=self._refuse_to_read)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster, whose runs go on; a local Ray that this client started is stopped, and its runs with it.

        What was interrupted so goes on with `run.resume()` in a later Ray with the same storage; nothing committed is lost.
        """
        if not self._owns_ray:
            return
        self._owns_ray = False
        try:
            with suppress(WonderError, ray.exceptions.RayError):  # what is not sealed now is sealed by the next Ray
                flushing = [ray.get_actor(name, namespace=NAMESPACE).flush.remote() for name in ("events", "logs")]
                ray.get(flushing, timeout=FLUSH_SECONDS)
        finally:
            ray.shutdown()

    def start(
        self,
        flow: Workflow | WorkflowDefinition | str,
        input: object = None,  # noqa: A002 - the field's standard name
        *,
        key: str | None = None,
        trace: bool = False,
        labels: Mapping[str, str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run; when this returns, the run is durable and will be carried out.

        Args:
            flow: A workflow, its definition, or the name of one that was registered before (its latest version).
            input: JSON, or a pydantic model.
            key: Your own name for this run: a second start with the same key, definition and input finds the first run.
            trace: Whether to record trace events.
            labels: For finding the run again.
            runtime_env: Ray's runtime environment for tasks whose node has none; part of the version that is registered.

        Raises:
            DefinitionError: The definition is wrong, or names code that cannot be packed.
            InputError: The input is no JSON, or breaks the workflow's schema; nothing was started.
            KeyConflictError: The key belongs to a run with another definition or input.
            ServiceUnavailableError: The registry did not answer for a minute. Whether the run was created is unknown;
                start again with the same `key`.
        """
        refuse_while_importing("starts a run")
        name, version = (flow, None) if isinstance(flow, str) else (flow.name, self.register(flow, runtime_env))
        request = StartRequest(
            workspace_id=self.workspace,
            project_id=self.project,
            workflow_name=name,
            workflow_version=version,
            input=encoded_input(name, input),
            key=key,
            run_id=new_run_id(SystemClock().now_us()),  # made here: a call that is repeated finds the run it has created
            trace=trace,
            labels=dict(labels or {}),
        )
        return self._begin(request)

    def _begin(self, request: StartRequest) -> Run:
        record, _ = self._services.call("resources", "start_run", request)
        if not record.ended:
            with suppress(ServiceUnavailableError):  # the directory finds queued runs by itself, if not at once
                self._services.call("directory", "activate", record.run_id, within_s=ACTIVATE_SECONDS)
        return Run(self, record)

    def register(self, flow: Workflow | WorkflowDefinition, runtime_env: Mapping[str, Any] | None = None) -> str:
        """Store a workflow with its code; its version (a hash), by which runs of it can be started from anywhere.

        The workflows that it runs as children, where they were given as such and not by name, are stored before it.
        """

        def put(definition: bytes) -> str:
            equipped = in_environment(definition, runtime_env) if runtime_env else definition
            self._send_code(decode(equipped).get("bundle"))
            return put_definition(partial(self._services.call, "resources"), self.storage.root, equipped, self.workspace)

        return register(flow, put, self.storage.root)

    def _send_code(self, sha256: str | None) -> None:
        """Hand the services the code that this driver has packed, where it lies on another node than their folder."""
        if sha256 is None or self._here or self._services.call("directory", "holds_bundle", sha256):
            return
        store = BundleStore(self.storage.root)
        if store.path(sha256).is_file():  # else the registry knows the bundle, or refuses
            self._services.call("directory", "write_bundle", store.read(sha256))

    def run(self, ref: str) -> Run:
        """A run by its id, a unique beginning of it, or `latest`."""
        return Run(self, self._services.call("resources", "get_run", ref, workspace_id=self.workspace))

    def runs(self, **filters: Any) -> list[RunRecord]:
        """Runs of the workspace, newest first.

        Filters: `status` (or `statuses`), `workflow`, `version`, `labels`, `project_id`, `parent_run_id`, `root_run_id`,
        `created_after_us`, `created_before_us`, `limit`.
        """
        page = self._services.call("resources", "list_runs", **{"workspace_id": self.workspace} | filters)
        found: list[RunRecord] = page.runs
        return found

    def logs(  # noqa: PLR0913 - each argument is an optional filter
        self,
        run: str | None = None,
        *,
        service: Service | None = None,
        level: Level | None = None,
        event_type: str | None = None,
        node: str | None = None,
        text: str | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
        limit: int = 1_000,
        archive: bool = False,
    ) -> list[LogLine]:
        """The newest lines of the log that fit every filter, oldest first.

        Args:
            run: Only of this run: its id, a unique beginning of it, or `latest`.
            service: Only of this service.
            level: This level or worse.
            event_type: Exactly, or a pattern when it holds a `%`.
            node: Only of this node.
            text: Contained in the message or the traceback.
            since_us: At or after this time (microseconds, UTC).
            until_us: Before this time.
            limit: At most this many.
            archive: Also those that have gone into the archive.

        Example:
            >>> [line.message for line in client.logs("latest", level="error")]  # doctest: +SKIP
        """
        if not self._here:
            self._refuse_to_read()
        found = LogReader(self.storage.root).search(
            trace_id=None if run is None else self.run(run).id,
            service=service,
            level=level,
            event_type=event_type,
            node_id=node,
            text=text,
            since_us=since_us,
            until_us=until_us,
            limit=limit,
            newest_first=True,
            archive=archive,
        )
        return found[::-1]

    @property
    def admin(self) -> Administration:
        """Workspaces, projects, API keys and secrets.

        Example:
            >>> client.admin.put_secret("openai", value="sk-...")  # doctest: +SKIP
        """
        return remote_administration(partial(self._services.call, "resources"))

    def flush(self) -> None:
        """Return when every event acknowledged so far lies in a finished Parquet file."""
        self._services.call("events", "flush")

    def _refuse_to_read(self) -> None:
        msg = f"what has happened is told by {self.storage.root} on {self._host}, and this is another node: its folder of that"
        raise StorageError(f"{msg} name is not the cluster's; ask there (`wonder sql`, a job), or over HTTP (`wonder serve`)")
