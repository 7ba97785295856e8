"""The coordinator as a Ray actor: named `run:<run_id>` in namespace `wonder`, one process per live run.

The actor only hosts: its async methods post to the mailbox of a `CoordinatorHost` and await the turn. When the run is over
and told, or when a turn has failed, the process ends; Ray starts it again after a crash, and then it goes on from its file.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import ray

from wonder_ray.clock import SystemClock
from wonder_ray.coordinator.host import CoordinatorHost
from wonder_ray.coordinator.opening import Claim, Ports
from wonder_ray.errors import WonderError
from wonder_ray.executor.remote import decode_outcomes, explain_loss, submit
from wonder_ray.logs.actor import remote_sender
from wonder_ray.logs.client import LogClient
from wonder_ray.planning.facts import CancelRun
from wonder_ray.resources.records import RunProjection
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wonder_ray.coordinator.coordinator import Snapshot
    from wonder_ray.coordinator.ports import OnLoss, OnOutcomes
    from wonder_ray.events.wire import Ack, EventBatch, OpenReply, RunInfo
    from wonder_ray.executor.protocol import Call, TaskSpec

NAMESPACE: Final = "wonder"
MAX_RESTARTS: Final = 5
CALL_SECONDS: Final = 60.0
CANCEL_GRACE_SECONDS: Final = 5.0
LINGER_SECONDS: Final = 0.5
"""How long a finished coordinator still answers, so that replies under way arrive."""


def actor_name(run_id: str) -> str:
    """The name of a run's coordinator."""
    return f"run:{run_id}"


class CoordinatorActor:
    """Hosts the coordinator of one run."""

    def __init__(self, run_id: str, storage: str, namespace: str = NAMESPACE) -> None:
        self._log = LogClient(remote_sender(namespace), "coordinator")
        context = ray.get_runtime_context()
        placement = {
            "kind": "dedicated",
            "placement": "dedicated",
            "pid": os.getpid(),
            "node": context.get_node_id(),
            "host": socket.gethostname(),
            "since_us": time.time_ns() // 1000,
        }
        self._handle = context.current_actor
        self._outside = _Outside(run_id, placement, self._log, namespace)
        self._host = CoordinatorHost(run_id, Layout(storage), self._outside.ports, placement, self._exit)
        self._host.start()

    async def wait(self, timeout_s: float) -> Snapshot | None:
        """The last snapshot of the run once it has ended; None when it has not after `timeout_s` seconds."""
        ended = asyncio.shield(asyncio.wrap_future(self._host.ended))
        try:
            return await asyncio.wait_for(ended, timeout_s)
        except TimeoutError:
            return None

    async def status(self) -> Snapshot | None:
        """How the run stands; None while it is being opened."""
        return self._host.snapshot

    async def cancel(self, reason: str, key: str | None = None) -> dict[str, Any]:
        """Stop the run; answered once that is committed."""
        return await asyncio.wrap_future(self._host.command(CancelRun(reason=reason, key=key), key=key))

    async def ping(self) -> dict[str, Any]:
        """Proof of life."""
        return {"run_id": self._host.run_id, **self._host.placement}

    def _exit(self, error: BaseException | None) -> None:
        """On the coordinator's thread, when it is over."""
        if error is None:
            self._outside.settle()
            self._log.flush(1.0)
            time.sleep(LINGER_SECONDS)
            ray.kill(self._handle, no_restart=True)
            return
        self._log.error("coordinator_failed", f"{type(error).__name__}: {error}", error=error, trace_id=self._host.run_id)
        self._log.flush(2.0)
        time.sleep(LINGER_SECONDS)
        if isinstance(error, WonderError):  # it would fail the same way again: whoever touches the run next may have mended it
            ray.kill(self._handle, no_restart=True)
            return
        os._exit(1)


class _Outside:
    """The services and executors of one coordinator, over Ray."""

    def __init__(self, run_id: str, placement: dict[str, Any], log: LogClient, namespace: str) -> None:
        self._run_id = run_id
        self._placement = placement
        self._log = log
        self._events = ray.get_actor("events", namespace=namespace)
        self._resources = ray.get_actor("resources", namespace=namespace)
        self._epoch = 0
        self._reports: list[ray.ObjectRef] = []

    def ports(self, _host: CoordinatorHost) -> Ports:
        """What the coordinator is given."""
        return Ports(services=self, gateway=RayGateway(), sink=self, registry=self, log=self._log, clock=SystemClock())

    def claim(self, known: int) -> Claim:
        """Take an epoch, and learn what the run is."""
        run = ray.get(self._resources.get_run.remote(self._run_id), timeout=CALL_SECONDS)
        definition = self._resources.get_definition.remote(run.workflow_name, run.workflow_version, run.workspace_id)
        epoch = self._resources.take_epoch.remote(self._run_id, known, self._placement)
        self._epoch, found = ray.get([epoch, definition], timeout=CALL_SECONDS)
        return Claim(epoch=self._epoch, run=run, definition=found)

    def open_events(self, run: RunInfo, epoch: int) -> OpenReply:
        """Fence, and learn the marks."""
        reply: OpenReply = ray.get(
            self._events.open.remote(run.workflow_run_id, epoch, epoch == 1), timeout=CALL_SECONDS
        )
        return reply

    def append(self, batch: EventBatch, on_ack: Callable[[Ack], None], on_error: Callable[[Exception], None]) -> None:
        """Send one batch to the event service."""

        def answered(future: Any) -> None:
            error = future.exception()
            if error is None:
                on_ack(future.result()[0])
            else:
                self._log.warning("events_rpc_failed", f"{type(error).__name__}: {error}", trace_id=self._run_id)
                on_error(error)

        self._events.append.remote([batch]).future().add_done_callback(answered)

    def flush(self) -> None:
        """Ask for a flush; the service lets them run together."""
        self._reports.append(self._events.flush.remote())

    def report(self, projection: Mapping[str, Any]) -> None:
        """Tell the registry."""
        projected = RunProjection(**projection)
        self._reports.append(self._resources.report.remote(self._run_id, self._epoch, projected))
        if projected.ended_us is not None:
            self._reports.append(self._resources.release_placement.remote(self._run_id, self._epoch))

    def settle(self) -> None:
        """Wait until the registry has heard everything; what it has not is told again when the run is opened."""
        try:
            ray.get(self._reports, timeout=CALL_SECONDS)
        except (ray.exceptions.RayError, WonderError) as error:
            self._log.warning("resources_rpc_failed", f"{type(error).__name__}: {error}", trace_id=self._run_id)


class RayGateway:
    """Sends tasks to Ray."""

    def __init__(self) -> None:
        self._resources = ray.cluster_resources()

    def slots(self, resources: Mapping[str, Any]) -> int:
        """How many such tasks fit into the cluster at once."""
        cpus = float(resources.get("num_cpus") or 0)
        fitting = [self._resources.get("CPU", 1.0) / cpus] if cpus else [self._resources.get("CPU", 1.0)]
        gpus = float(resources.get("num_gpus") or 0)
        if gpus:
            fitting.append(self._resources.get("GPU", 0.0) / gpus)
        return max(1, int(min(fitting)))

    def submit(
        self, spec: TaskSpec, calls: Sequence[Call], resources: Mapping[str, Any], on_outcomes: OnOutcomes, on_loss: OnLoss
    ) -> object:
        """Start one task."""

        def done(future: Any) -> None:
            error = future.exception()
            if error is None:
                on_outcomes(decode_outcomes(future.result()))
            else:
                on_loss(explain_loss(error))

        ref = submit(spec, calls, resources)
        ref.future().add_done_callback(done)
        return ref

    def cancel(self, handle: Any) -> None:
        """Interrupt a task, and kill it when it has not stopped after a grace period."""
        ray.cancel(handle, force=False)

        def force() -> None:
            done, _ = ray.wait([handle], timeout=0)
            if not done:
                ray.cancel(handle, force=True)

        timer = threading.Timer(CANCEL_GRACE_SECONDS, force)
        timer.daemon = True
        timer.start()


def activate(run_id: str, storage: str, *, namespace: str = NAMESPACE) -> Any:
    """The handle of a run's coordinator, which is started if it does not live. Safe to call from many places at once."""
    actor = ray.remote(num_cpus=0, max_restarts=MAX_RESTARTS, max_task_retries=0)(CoordinatorActor)
    options = actor.options(name=actor_name(run_id), namespace=namespace, lifetime="detached", get_if_exists=True)
    return options.remote(run_id, storage, namespace)
