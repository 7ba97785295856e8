"""The coordinator as a Ray actor: named `run:<run_id>` in namespace `wonder`, one process per live run.

The actor only hosts: its async methods post to the mailbox of a `CoordinatorHost` and await the turn. When the run is over
and told, or when a turn has failed, the process ends; Ray starts it again after a crash, and then it goes on from its file.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wonder_ray.clock import SystemClock
from wonder_ray.coordinator.children import ChildRuns
from wonder_ray.coordinator.host import CoordinatorHost
from wonder_ray.coordinator.opening import Claim, Ports
from wonder_ray.errors import ServiceUnavailableError, StaleEpochError, WonderError
from wonder_ray.executor.remote import decode_outcomes, explain_loss, submit
from wonder_ray.ids import NAMESPACE
from wonder_ray.logs.actor import remote_sender
from wonder_ray.logs.client import LogClient
from wonder_ray.planning.facts import CancelRun, CommandFact
from wonder_ray.planning.queries import Waiting, evaluate_query, gates_of
from wonder_ray.resources.records import RunProjection
from wonder_ray.storage.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wonder_ray.coordinator.messages import Snapshot
    from wonder_ray.coordinator.ports import OnLoss, OnOutcomes
    from wonder_ray.events.wire import Ack, EventBatch, OpenReply, RunInfo
    from wonder_ray.executor.protocol import Call, TaskSpec
    from wonder_ray.resources.records import RunRecord, StartRequest

T = TypeVar("T")
MAX_RESTARTS: Final = 100
"""By Ray alone, after crashes; whoever asks for the run starts it anew after that."""
CALL_SECONDS: Final = 60.0
OPENING_SECONDS: Final = 120.0
"""How long a coordinator that starts waits for the services, which may be starting too."""
TELLING_SECONDS: Final = 600.0
"""How long a finished coordinator tries to tell the registry."""
LOOK_SECONDS: Final = 10.0
"""How old the picture of the cluster's size may be: clusters grow and shrink."""
RETRY_SECONDS: Final = 0.2
RETRY_SECONDS_MAX: Final = 5.0
CANCEL_GRACE_SECONDS: Final = 5.0
LEAVING_SECONDS: Final = 5.0
HISTORY_ROWS: Final = 5_000
"""Events of another run that are read at a time."""
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
            "address": context.gcs_address,
            "since_us": time.time_ns() // 1000,
        }
        self._actor = (context.current_actor, context.get_actor_id())
        self._outside = _Outside(run_id, placement, self._log, namespace)
        self._host = CoordinatorHost(run_id, Layout(storage), self._outside.ports, placement, self._exit)
        self._host.start()

    async def wait(self, timeout_s: float) -> Snapshot | None:
        """The last snapshot of the run once it has ended and the registry knows; None when not after `timeout_s` seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                ended = await asyncio.shield(asyncio.wrap_future(self._host.ended))
                await asyncio.shield(asyncio.wrap_future(self._outside.told))
                return ended
        except TimeoutError:
            return None

    async def status(self) -> Snapshot | None:
        """How the run stands; None while it is being opened."""
        return self._host.snapshot

    async def command(self, fact: CommandFact) -> dict[str, Any]:
        """Ask something of the run; answered once that is committed, by the same answer whenever its key comes again."""
        return await asyncio.wrap_future(self._host.command(fact, key=fact.key))

    async def query(self, expression: str) -> dict[str, Any]:
        """The `value` of an expression over the run's state."""
        return {"value": await asyncio.wrap_future(self._host.query(lambda state, _: evaluate_query(state, expression)))}

    async def gates(self) -> list[Waiting]:
        """The gates that are open."""
        return await asyncio.wrap_future(self._host.query(gates_of))

    async def poke(self) -> None:
        """A child run has ended."""
        self._outside.children.poke()

    async def ping(self) -> dict[str, Any]:
        """Proof of life."""
        return {"run_id": self._host.run_id, **self._host.placement}

    def _exit(self, error: BaseException | None) -> None:
        """On the coordinator's thread, when it is over."""
        if error is None:
            self._outside.settle()
        else:
            self._log.error("coordinator_failed", f"{type(error).__name__}: {error}", error=error, trace_id=self._host.run_id)
        self._log.flush(1.0)
        time.sleep(LINGER_SECONDS)
        if error is None or isinstance(error, WonderError):
            # Over; or it would fail the same way again, until somebody has mended it: who asks for the run next starts it.
            handle, actor_id = self._actor
            self._outside.leave(actor_id, over=error is None)
            ray.kill(handle, no_restart=True)
            return
        os._exit(1)


class _Service:
    """A service as a coordinator reaches it: by name, when it is needed, also after it was replaced."""

    def __init__(self, name: str, namespace: str) -> None:
        self._name = name
        self._namespace = namespace
        self._actor: Any = None

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Call a method; the future's exception is a `WonderError` wherever that is what went wrong."""
        answer: Future[Any] = Future()

        def done(future: Future[Any]) -> None:
            error = future.exception()
            if isinstance(error, ray.exceptions.ActorDiedError):
                self._actor = None  # for good: the next call looks for its successor
            if error is None:
                answer.set_result(future.result())
            else:
                answer.set_exception(self._meant(error))

        try:
            if self._actor is None:
                self._actor = ray.get_actor(self._name, namespace=self._namespace)
            getattr(self._actor, method).remote(*args).future().add_done_callback(done)
        except (ValueError, ray.exceptions.RayError) as error:  # no such actor
            answer.set_exception(ServiceUnavailableError(f"the service {self._name!r} is not there: {error}"))
        return answer

    def _meant(self, error: BaseException) -> BaseException:
        cause = getattr(error, "cause", None)
        if isinstance(error, ray.exceptions.RayTaskError):
            return cause if isinstance(cause, WonderError) else error
        return ServiceUnavailableError(f"the service {self._name!r} did not answer: {error}")


class _Outside:
    """The services and executors of one coordinator, over Ray."""

    def __init__(self, run_id: str, placement: dict[str, Any], log: LogClient, namespace: str) -> None:
        self.told: Future[None] = Future()
        """Done once the registry knows how the run ended."""
        self._run_id = run_id
        self._placement = placement
        self._log = log
        self._namespace = namespace
        self._events = _Service("events", namespace)
        self._resources = _Service("resources", namespace)
        self._directory = _Service("directory", namespace)
        self._epoch = 0
        self._run: RunRecord
        self.children: ChildRuns

    def ports(self, host: CoordinatorHost) -> Ports:
        """What the coordinator is given."""
        gateway = RayGateway(self._log)
        self.children = ChildRuns(lambda: self._run, self, host.post, self._log)
        return Ports(
            services=self,
            gateway=gateway,
            sink=self,
            registry=self,
            children=self.children,
            log=self._log,
            clock=SystemClock(),
        )

    def claim(self, known: int) -> Claim:
        """Take an epoch, and learn what the run is."""
        run = self._run = self._patiently(lambda: self._resources.call("get_run", self._run_id))
        definition = self._patiently(
            lambda: self._resources.call("get_definition", run.workflow_name, run.workflow_version, run.workspace_id)
        )
        self._epoch = self._patiently(lambda: self._resources.call("take_epoch", self._run_id, known, self._placement))
        return Claim(epoch=self._epoch, run=run, definition=definition)

    def history(self, run_id: str) -> Iterator[dict[str, Any]]:
        """The events of another run, as the event service has them."""
        read = functools.partial(self._events.call, "read", run_id)
        rows = self._patiently(lambda: read(0, HISTORY_ROWS))
        while rows:
            yield from (row.as_dict() for row in rows)
            rows = self._patiently(functools.partial(read, rows[-1].sequence_number, HISTORY_ROWS))

    def start_child(self, request: StartRequest) -> RunRecord:
        """Create a child run, or find it, and see to it that it is carried out."""
        record: RunRecord = self._resources.call("start_run", request).result(CALL_SECONDS)[0]
        if not record.ended:
            self._directory.call("activate", record.run_id).result(CALL_SECONDS)
        return record

    def look_up_child(self, run_id: str) -> RunRecord:
        """What the registry knows of it."""
        record: RunRecord = self._resources.call("get_run", run_id).result(CALL_SECONDS)
        return record

    def cancel_child(self, run_id: str, reason: str, *, compensate: bool) -> None:
        """Tell its coordinator to end it."""
        handle = self._directory.call("activate", run_id).result(CALL_SECONDS)
        handle.command.remote(CancelRun(reason=reason, compensate=compensate, key=f"parent-{self._run_id}"))

    def open_events(self, run: RunInfo, epoch: int) -> OpenReply:
        """Fence, and learn the marks."""
        reply: OpenReply = self._patiently(lambda: self._events.call("open", run.workflow_run_id, epoch, epoch == 1))
        return reply

    def _patiently(self, call: Callable[[], Future[T]]) -> T:
        """The answer of a service that may be about to start."""
        deadline = time.monotonic() + OPENING_SECONDS
        pause = RETRY_SECONDS
        while True:
            try:
                return call().result(CALL_SECONDS)
            except (ServiceUnavailableError, TimeoutError) as error:
                self._failed("services", error)
                if time.monotonic() > deadline:
                    msg = f"run {self._run_id} cannot be opened: {error}; start it again: `wonder resume {self._run_id}`"
                    raise ServiceUnavailableError(msg) from error
            time.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)

    def append(self, batch: EventBatch, on_ack: Callable[[Ack], None], on_error: Callable[[Exception], None]) -> None:
        """Send one batch to the event service."""

        def answered(future: Future[list[Ack]]) -> None:
            error = future.exception()
            if error is None:
                on_ack(future.result()[0])
            else:
                self._failed("events", error)
                on_error(error if isinstance(error, Exception) else WonderError(str(error)))

        self._events.call("append", [batch]).add_done_callback(answered)

    def flush(self) -> None:
        """Ask for a flush; the service lets them run together."""
        self._events.call("flush")

    def report(self, projection: Mapping[str, Any]) -> None:
        """Tell the registry, as often as it takes."""
        self._tell(RunProjection(**projection), RETRY_SECONDS)

    def _tell(self, projection: RunProjection, pause: float) -> None:
        def answered(future: Future[bool]) -> None:
            error = future.exception()
            if error is None or isinstance(error, StaleEpochError):  # a newer coordinator tells it
                if projection.ended_us is not None and not self.told.done():
                    self.told.set_result(None)
                return
            self._failed("resources", error)
            again = threading.Timer(pause, self._tell, (projection, min(2 * pause, RETRY_SECONDS_MAX)))
            again.daemon = True
            again.start()

        self._resources.call("report", self._run_id, self._epoch, projection).add_done_callback(answered)

    def settle(self) -> None:
        """Wait until the registry knows the end; if it cannot be told, that is done when the run is opened again."""
        try:
            self.told.result(TELLING_SECONDS)
            self._poke_parent()
            self._resources.call("release_placement", self._run_id, self._epoch).result(CALL_SECONDS)
        except (TimeoutError, WonderError) as error:
            self._failed("resources", error)

    def _poke_parent(self) -> None:
        """A parent that does not live, or does not hear this, will look by itself."""
        if self._run.parent_run_id is not None:
            with suppress(ValueError, ray.exceptions.RayError):
                ray.get_actor(actor_name(self._run.parent_run_id), namespace=self._namespace).poke.remote()

    def leave(self, actor_id: str, *, over: bool) -> None:
        """Ask the directory to end this actor; without a directory it ends itself."""
        with suppress(TimeoutError, ServiceUnavailableError):
            self._directory.call("forget", self._run_id, actor_id, over).result(LEAVING_SECONDS)

    def _failed(self, service: str, error: BaseException) -> None:
        with suppress(Exception):  # a log line is never worth more than what it is about
            event_type = f"{service}_rpc_timeout" if isinstance(error, TimeoutError) else f"{service}_rpc_failed"
            self._log.error(event_type, f"{type(error).__name__}: {error}", trace_id=self._run_id)


class RayGateway:
    """Sends tasks to Ray."""

    def __init__(self, log: LogClient) -> None:
        self._log = log
        self._looked_s = -LOOK_SECONDS
        self._resources: dict[str, float] = {}
        self._complained: set[str] = set()

    def slots(self, resources: Mapping[str, Any]) -> int:
        """How many such tasks fit into the cluster at once."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_SECONDS:
            self._looked_s, self._resources = now_s, ray.cluster_resources()
        asked = {
            "CPU": resources.get("num_cpus") or 0,
            "GPU": resources.get("num_gpus") or 0,
            "memory": resources.get("memory") or 0,
            **(resources.get("resources") or {}),
        }
        fitting = [self._resources.get(name, 0.0) / amount for name, amount in asked.items() if amount]
        slots = min(fitting, default=self._resources.get("CPU", 1.0))
        if slots < 1:
            self._complain(asked)
        return max(1, int(slots))

    def _complain(self, asked: Mapping[str, float]) -> None:
        """Ray waits for ever for what a cluster does not have: it may be about to grow."""
        wanted = ", ".join(f"{name} {amount:g}" for name, amount in asked.items() if amount)
        if wanted not in self._complained:
            self._complained.add(wanted)
            self._log.warning("resources_missing", f"no task that needs {wanted} fits into the cluster as it is; it waits")

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


def start(run_id: str, storage: str, *, namespace: str = NAMESPACE, node_id: str) -> Any:
    """The handle of a run's coordinator on the node with its file; it is started if there is none. For the directory."""
    options = {
        "name": actor_name(run_id),
        "namespace": namespace,
        "get_if_exists": True,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node_id, soft=False),
    }
    return _remote_class().options(**options).remote(run_id, storage, namespace)


@functools.cache
def _remote_class() -> Any:
    """One for the process: each would be sent to the cluster anew."""
    return ray.remote(num_cpus=0, max_restarts=MAX_RESTARTS, max_task_retries=0)(CoordinatorActor)
