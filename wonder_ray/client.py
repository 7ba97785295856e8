"""The one Python entry: connect to a cluster (or start a local Ray), start runs, and look at them.

>>> import wonder_ray as wonder  # doctest: +SKIP
>>> with wonder.connect() as client:  # doctest: +SKIP
...     run = client.start(flow, {"site": "example.org"}, key="crawl-2026-11-23")
...     run.result(timeout=600)
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import ray

from wonder_ray.bundles.pack import pack
from wonder_ray.bundles.store import BundleStore
from wonder_ray.clock import SystemClock
from wonder_ray.coordinator.actor import NAMESPACE, activate, actor_name
from wonder_ray.definitions.builder import Workflow
from wonder_ray.definitions.models import WorkflowDefinition
from wonder_ray.definitions.validation import check
from wonder_ray.errors import RunFailedError, ServiceUnavailableError, WonderError
from wonder_ray.events.actor import get_or_create as events_service
from wonder_ray.ids import new_run_id
from wonder_ray.logs.actor import get_or_create as log_service
from wonder_ray.resources.actor import get_or_create as resources_service
from wonder_ray.resources.actor import unwrap
from wonder_ray.resources.records import StartRequest
from wonder_ray.storage.layout import Layout
from wonder_ray.values import canonical, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from wonder_ray.coordinator.coordinator import Snapshot
    from wonder_ray.events.query import EventRow
    from wonder_ray.resources.records import RunRecord

CALL_SECONDS: Final = 60.0
POLL_SECONDS: Final = 5.0
"""How long one question to a coordinator may take; then the client looks whether it still lives."""
RETRY_SECONDS: Final = 0.2
FOLLOW_SECONDS: Final = 0.2


def connect(
    address: str | None = None,
    *,
    storage: str | Path | None = None,
    ray_options: Mapping[str, Any] | None = None,
) -> Client:
    """A client of the cluster at `address`; without one, of the Ray that is initialised here, else of a new local one.

    Args:
        address: A Ray address (`auto`, `host:port`, `ray://...`).
        storage: The storage folder; by default `$WONDER_STORAGE`, else `~/.wonder/storage`.
        ray_options: More arguments for `ray.init`.

    Raises:
        StorageError: The folder cannot be used; nothing was started.

    Example:
        >>> with connect(storage="./data") as client:  # doctest: +SKIP
        ...     client.start(flow, {"n": 3}).result()
    """
    layout = Layout(storage).prepare()
    started = not ray.is_initialized()
    if started:
        _init_ray(address, dict(ray_options or {}))
    try:
        return Client(layout, owns_ray=started)
    except BaseException:
        if started:
            ray.shutdown()
        raise


def _init_ray(address: str | None, options: dict[str, Any]) -> None:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
    if address is None and "RAY_ADDRESS" not in os.environ:
        quiet["include_dashboard"] = False
        quiet["address"] = "local"
    elif address is not None:
        quiet["address"] = address
    ray.init(**(quiet | options))


class Client:
    """Starts runs and finds them; use it as a context manager, so that a local Ray it started is stopped again.

    Attributes:
        storage: The paths of the storage folder.
    """

    def __init__(self, layout: Layout, *, owns_ray: bool = False) -> None:
        self.storage = layout
        self._owns_ray = owns_ray
        root = str(layout.root)
        self._resources = resources_service(root, namespace=NAMESPACE)
        self._events = events_service(root, namespace=NAMESPACE)
        self._logs = log_service(root, namespace=NAMESPACE)
        found = self._call(self._resources.ping)
        if found["storage"] != root:
            msg = f"the cluster's services keep their data in {found['storage']!r}, not in {root!r}; connect with that storage"
            raise WonderError(msg)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop the local Ray, if this client started it; otherwise the cluster and its runs go on."""
        if self._owns_ray:
            self._owns_ray = False
            try:
                ray.get([self._events.flush.remote(), self._logs.flush.remote()], timeout=CALL_SECONDS)
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
    ) -> Run:
        """Start a run; when this returns, the run is durable and will be carried out.

        Args:
            flow: A workflow, its definition, or the name of one that was registered before (its latest version).
            input: JSON, or a pydantic model.
            key: Your own name for this run: a second start with the same key, definition and input finds the first run.
            trace: Whether to record trace events.
            labels: For finding the run again.

        Raises:
            DefinitionError: The definition is wrong, or names code that cannot be packed.
            InputError: The input breaks the workflow's schema; nothing was started.
            KeyConflictError: The key belongs to a run with another definition or input.
        """
        name, version = self._registered(flow)
        value = input.model_dump(mode="json") if hasattr(input, "model_dump") else input
        request = StartRequest(
            workflow_name=name,
            workflow_version=version,
            input=encode(value),
            key=key,
            run_id=new_run_id(SystemClock().now_us()),
            trace=trace,
            labels=dict(labels or {}),
        )
        record, _ = self._call(self._resources.start_run, request)
        run = Run(self, record)
        if not record.ended:
            run.resume()
        return run

    def register(self, flow: Workflow | WorkflowDefinition) -> str:
        """Store a workflow with its code; its version (a hash), by which runs of it can be started from anywhere."""
        definition = flow.definition() if isinstance(flow, Workflow) else flow
        check(definition)
        if isinstance(flow, Workflow) and flow.actions:
            bundle = pack(flow.actions, exclude=(self.storage.root,))
            if bundle.manifest.files:
                BundleStore(self.storage.root).put(bundle.data)
                definition = definition.model_copy(update={"bundle": bundle.sha256})
        version: str = self._call(self._resources.put_definition, canonical(definition.to_json()))
        return version

    def _registered(self, flow: Workflow | WorkflowDefinition | str) -> tuple[str, str | None]:
        return (flow, None) if isinstance(flow, str) else (flow.name, self.register(flow))

    def run(self, ref: str) -> Run:
        """A run by its id, a unique beginning of it, or `latest`."""
        return Run(self, self._call(self._resources.get_run, ref))

    def runs(self, **filters: Any) -> list[RunRecord]:
        """Runs, newest first; filters: `status`, `workflow`, `limit`."""
        page = self._call(self._resources.list_runs, **filters)
        found: list[RunRecord] = page.runs
        return found

    def flush(self) -> None:
        """Return when every event acknowledged so far lies in a finished Parquet file."""
        self._call(self._events.flush)

    def _call(self, method: Any, *args: Any, **named: Any) -> Any:
        """Call a service; its errors arrive as themselves. A service that is just being restarted is asked again."""
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            try:
                return ray.get(method.remote(*args, **named), timeout=CALL_SECONDS)
            except ray.exceptions.ActorUnavailableError as error:
                if time.monotonic() > deadline:
                    raise unwrap(error) from None
                time.sleep(RETRY_SECONDS)
            except ray.exceptions.RayError as error:
                raise unwrap(error) from None


def _wait_remotely(actor: Any, seconds: float) -> Snapshot | None:
    snapshot: Snapshot | None = ray.get(actor.wait.remote(seconds), timeout=seconds + CALL_SECONDS)
    return snapshot


class Run:
    """One run.

    Attributes:
        id: Its id.
        last_snapshot: What its coordinator last told while it was waited for.
    """

    def __init__(self, client: Client, record: RunRecord) -> None:
        self.id = record.run_id
        self.last_snapshot: Snapshot | None = None
        self._client = client

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def record(self) -> RunRecord:
        """What the registry knows of it."""
        found: RunRecord = self._client._call(self._client._resources.get_run, self.id)  # noqa: SLF001 - one module, one client
        return found

    def resume(self) -> None:
        """Make sure that its coordinator lives; a run that has ended is left alone."""
        activate(self.id, str(self._client.storage.root), namespace=NAMESPACE)

    def wait(self, timeout: float | None = None) -> RunRecord | None:
        """The run's record once it has ended, None when it has not after `timeout` seconds.

        A coordinator that has died is started again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            record = self.record()
            if record.ended:
                return record
            left = POLL_SECONDS if deadline is None else min(POLL_SECONDS, deadline - time.monotonic())
            if left <= 0:
                return None
            self.last_snapshot = self._ask(partial(_wait_remotely, seconds=left)) or self.last_snapshot

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """Ask the coordinator, starting it when it does not live; None when it dies while it is asked."""
        try:
            return question(activate(self.id, str(self._client.storage.root), namespace=NAMESPACE))
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            time.sleep(RETRY_SECONDS)
            return None
        except ray.exceptions.RayTaskError as error:
            raise unwrap(error) from None

    def result(self, timeout: float | None = None) -> Any:
        """The run's output.

        Raises:
            RunFailedError: It ended otherwise; `status` and `error` tell how.
            TimeoutError: It has not ended after `timeout` seconds; it goes on.
        """
        record = self.wait(timeout)
        if record is None:
            msg = f"run {self.id} has not ended after {timeout} s; it goes on: `wonder show {self.id}`"
            raise TimeoutError(msg)
        if record.status != "completed":
            error = None if record.error is None else decode(record.error)
            what = "" if error is None else f": {error['type']}: {error['message']}"
            msg = f"run {self.id} {record.status}{what} (see `wonder events {self.id}` and `wonder logs {self.id}`)"
            raise RunFailedError(msg, run_id=self.id, status=str(record.status), error=error)
        return None if record.output is None else decode(record.output)

    def status(self) -> Snapshot | None:
        """How it stands right now, from its coordinator; None when that does not live."""
        try:
            actor = ray.get_actor(actor_name(self.id), namespace=NAMESPACE)
            snapshot: Snapshot | None = ray.get(actor.status.remote(), timeout=CALL_SECONDS)
        except (ValueError, ray.exceptions.RayError):
            return None
        return snapshot

    def cancel(self, reason: str = "", *, key: str | None = None) -> None:
        """Stop the run; durable when this returns. Cancelling a run that has ended does nothing."""
        key = key or f"cancel-{self.id}"
        for _ in range(round(CALL_SECONDS / RETRY_SECONDS)):
            if self.record().ended:
                return
            if self._ask(lambda actor: ray.get(actor.cancel.remote(reason or "cancelled by its user", key), timeout=CALL_SECONDS)):
                return
        msg = f"run {self.id}: its coordinator did not answer; the cancel may be repeated"
        raise ServiceUnavailableError(msg)

    def events(self, *, after: int = 0, follow: bool = False) -> Iterator[EventRow]:
        """Its workflow events in sequence; with `follow`, new ones as they come, until the run has ended."""
        while True:
            ended = self.record().ended if follow else True
            rows = self._client._call(self._client._events.read, self.id, after)  # noqa: SLF001 - one module, one client
            yield from rows
            after = rows[-1].sequence_number if rows else after
            if ended and not (follow and rows):
                return
            if not rows:
                time.sleep(FOLLOW_SECONDS)

    def state(self, *, at: int | None = None) -> dict[str, Any]:
        """Its state now, or at the end of the turn that holds event `at`: run, context, live tokens, open groups."""
        from wonder_ray.fold import describe, fold

        rows = self._client._call(self._client._events.read, self.id)  # noqa: SLF001 - one module, one client
        return describe(fold(self.id, (row.as_dict() for row in rows), at=at))
