"""The one Python entry: connect to a cluster (or start a local Ray), start runs, and look at them.

>>> import wonder_ray as wonder  # doctest: +SKIP
>>> with wonder.connect() as client:  # doctest: +SKIP
...     run = client.start(flow, {"site": "example.org"}, key="crawl-2026-11-23")
...     run.result(timeout=600)
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import ray

from wonder_ray.addresses import check_reachable
from wonder_ray.analytics.events import Events
from wonder_ray.bundles.imports import refuse_while_importing
from wonder_ray.clock import SystemClock
from wonder_ray.coordinator.actor import actor_name
from wonder_ray.errors import (
    InputError,
    PayloadError,
    RunFailedError,
    ServiceUnavailableError,
    StaleEpochError,
    WonderError,
)
from wonder_ray.ids import NAMESPACE, new_run_id
from wonder_ray.registration import in_environment, put_definition, register
from wonder_ray.resources.actor import unwrap
from wonder_ray.resources.records import StartRequest
from wonder_ray.services import CALL_SECONDS, FAILURES_MAX, RETRY_SECONDS, Services
from wonder_ray.storage.layout import Layout
from wonder_ray.values import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from wonder_ray.coordinator.messages import Snapshot
    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.events.query import EventRow
    from wonder_ray.resources.records import RunRecord

POLL_SECONDS: Final = 5.0  # for one question to a coordinator; then the client looks whether it still lives
FOLLOW_SECONDS: Final = 0.2
FLUSH_SECONDS: Final = 30.0
EVENTS_PER_CALL: Final = 10_000


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
        WonderError: Nothing listens at the address.
        StorageError: The folder cannot be used; nothing was started.

    Example:
        >>> with connect(storage="./data") as client:  # doctest: +SKIP
        ...     client.start(flow, {"n": 3}).result()
    """
    refuse_while_importing("connects to Ray")
    started = not ray.is_initialized()
    if started:
        check_reachable(address or os.environ.get("RAY_ADDRESS"))
    layout = Layout(storage).prepare()
    local = init_ray(address, dict(ray_options or {})) if started else False
    try:
        return Client(layout, owns_ray=started, local=local)
    except BaseException:
        if started:
            ray.shutdown()
        raise


def init_ray(address: str | None, options: dict[str, Any]) -> bool:
    """Connect to a cluster, or start a local Ray; whether it is that."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
    if address is None and "RAY_ADDRESS" not in os.environ:
        quiet["include_dashboard"] = False
        quiet["address"] = "local"
    elif address is not None:
        quiet["address"] = address
    chosen = quiet | options
    ray.init(**chosen)
    if not chosen["log_to_driver"]:  # else what raylets report comes on stdout all the same, among what the script prints
        ray._private.worker._worker_logs_enabled = False  # noqa: SLF001 - no public way
    return bool(chosen.get("address") == "local")


class Client:
    """Starts runs and finds them; use it as a context manager, so that a local Ray it started is stopped again.

    Attributes:
        storage: The paths of the storage folder.
        events: The events of all runs in SQL: `events.sql(...)`, `events.report(...)`.
    """

    def __init__(self, layout: Layout, *, owns_ray: bool = False, local: bool = False) -> None:
        self.storage = layout
        self.events = Events(layout.root, before=self.flush)
        self._owns_ray = owns_ray
        root = str(layout.root)
        self._services = Services(root, local=local)
        found = self._services.call("resources", "ping")
        if found["storage"] != root:
            msg = f"the cluster's services keep their data in {found['storage']!r}, not in {root!r}; connect with that storage"
            raise WonderError(msg)

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
            workflow_name=name,
            workflow_version=version,
            input=_encoded_input(name, input),
            key=key,
            run_id=new_run_id(SystemClock().now_us()),  # made here: a call that is repeated finds the run it has created
            trace=trace,
            labels=dict(labels or {}),
        )
        record, _ = self._services.call("resources", "start_run", request)
        if not record.ended:
            with suppress(ServiceUnavailableError):  # the directory finds queued runs by itself, if not at once
                self._services.call("directory", "activate", record.run_id, within_s=POLL_SECONDS)
        return Run(self, record)

    def register(self, flow: Workflow | WorkflowDefinition, runtime_env: Mapping[str, Any] | None = None) -> str:
        """Store a workflow with its code; its version (a hash), by which runs of it can be started from anywhere.

        The workflows that it runs as children, where they were given as such and not by name, are stored before it.
        """

        def put(definition: bytes) -> str:
            equipped = in_environment(definition, runtime_env) if runtime_env else definition
            return put_definition(partial(self._services.call, "resources"), self.storage.root, equipped)

        return register(flow, put, self.storage.root)

    def run(self, ref: str) -> Run:
        """A run by its id, a unique beginning of it, or `latest`."""
        return Run(self, self._services.call("resources", "get_run", ref))

    def runs(self, **filters: Any) -> list[RunRecord]:
        """Runs, newest first; filters: `status`, `workflow`, `limit`."""
        page = self._services.call("resources", "list_runs", **filters)
        found: list[RunRecord] = page.runs
        return found

    def flush(self) -> None:
        """Return when every event acknowledged so far lies in a finished Parquet file."""
        self._services.call("events", "flush")


def _encoded_input(name: str, value: Any) -> bytes:
    try:
        return encode(value.model_dump(mode="json") if hasattr(value, "model_dump") else value)
    except PayloadError as error:
        raise InputError(f"input of workflow {name!r}: {error}") from None


class Run:
    """One run.

    Attributes:
        id: Its id.
        last_snapshot: What its coordinator last told while it was waited for.
    """

    def __init__(self, client: Client, record: RunRecord) -> None:
        self.id = record.run_id
        self.last_snapshot: Snapshot | None = None
        self._services = client._services  # noqa: SLF001 - one module
        self._dead: str | None = None
        """The id of the coordinator that was last seen dead."""
        self._failures = 0

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    def record(self) -> RunRecord:
        """What the registry knows of it."""
        found: RunRecord = self._services.call("resources", "get_run", self.id)
        return found

    def resume(self) -> None:
        """Make sure that its coordinator lives; a run that has ended is left alone."""
        self._coordinator()

    def _coordinator(self) -> Any:
        return self._services.call("directory", "activate", self.id, self._dead)

    def wait(self, timeout: float | None = None) -> RunRecord | None:
        """The run's record once it has ended, None when it has not after `timeout` seconds.

        A coordinator that has died is started again.

        Raises:
            StorageError: The run's file cannot be used, or another process runs it.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            record = self.record()
            if record.ended:
                return record
            left = POLL_SECONDS if deadline is None else min(POLL_SECONDS, deadline - time.monotonic())
            if left <= 0:
                return None
            self.last_snapshot = self._ask("wait", left, seconds=left) or self.last_snapshot

    def _ask(self, method: str, *args: Any, seconds: float = 0.0) -> Any:
        """Ask the coordinator, starting it when it does not live; None when it dies meanwhile, or gives no answer in time."""
        actor = self._coordinator()
        try:
            answer = ray.get(getattr(actor, method).remote(*args), timeout=seconds + CALL_SECONDS)
        except ray.exceptions.ActorDiedError:
            self._dead = actor._actor_id.hex()  # noqa: SLF001 - Ray has no public name for it
            ray.kill(actor)  # the name of a dead actor can stay; this frees it, and touches no other actor
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            pass
        except ray.exceptions.RayTaskError as error:
            self._note_failure(unwrap(error))
        else:
            self._failures = 0
            return answer
        time.sleep(RETRY_SECONDS)
        return None

    def _note_failure(self, error: BaseException) -> None:
        """A coordinator has told why it ends: raise that, unless the next one may get on."""
        self._failures += 1
        passing = not isinstance(error, WonderError) or isinstance(error, (StaleEpochError, ServiceUnavailableError))
        if not passing:
            raise error from None
        self._services.renew()  # it may be one of them that it lacks
        if self._failures >= FAILURES_MAX:
            said = f"{type(error).__name__}: {str(error).strip().rpartition(chr(10))[2]}"
            raise WonderError(f"run {self.id}: its coordinator keeps failing: {said}; see `wonder logs {self.id}`") from None

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
        deadline = time.monotonic() + CALL_SECONDS
        while time.monotonic() < deadline:
            if self.record().ended or self._ask("cancel", reason or "cancelled by its user", key):
                return
        msg = f"run {self.id}: its coordinator did not answer; the cancel may be repeated"
        raise ServiceUnavailableError(msg)

    def events(self, *, after: int = 0, follow: bool = False) -> Iterator[EventRow]:
        """Its workflow events in sequence; with `follow`, new ones as they come, until the run has ended."""
        while True:
            done = not follow or self.record().ended
            rows: list[EventRow] = self._services.call("events", "read", self.id, after, EVENTS_PER_CALL)
            yield from rows
            after = rows[-1].sequence_number if rows else after
            if len(rows) == EVENTS_PER_CALL:
                continue
            if done:
                return
            if not rows:
                time.sleep(FOLLOW_SECONDS)

    def state(self, *, at: int | None = None) -> dict[str, Any]:
        """Its state now, or at the end of the turn that holds event `at`: run, context, live tokens, open groups."""
        from wonder_ray.fold import describe, fold

        return describe(fold(self.id, (row.as_dict() for row in self.events()), at=at))
