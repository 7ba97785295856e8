"""A whole system without Ray: real registry, coordinator, file, executor and logs. Time is simulated; tasks wait for `work`."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from tests.cases import words
from tests.coordinator.fakes import FakeChildren
from wonder_ray.clock import SimulatedClock
from wonder_ray.coordinator.messages import Command, Message, Wake
from wonder_ray.coordinator.opening import Claim, Ports, open_coordinator
from wonder_ray.events.wire import Ack, OpenReply
from wonder_ray.executor.runner import run_calls
from wonder_ray.logs.client import LogClient
from wonder_ray.logs.context import log_context
from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.service import ResourcesService
from wonder_ray.storage.layout import Layout
from wonder_ray.storage.sqlite import SqliteRunStore
from wonder_ray.values import canonical, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from wonder_ray.clock import Clock
    from wonder_ray.coordinator.coordinator import Coordinator
    from wonder_ray.coordinator.ports import OnLoss, OnOutcomes
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.events.wire import EventBatch, RunInfo
    from wonder_ray.executor.protocol import Call, ErrorInfo, TaskSpec
    from wonder_ray.logs.record import LogLine, Service
    from wonder_ray.resources.records import RunRecord
    from wonder_ray.storage.store import RunStore


class Task:
    """A task on its way to an executor."""

    def __init__(self, spec: TaskSpec, calls: Sequence[Call], on_outcomes: OnOutcomes, on_loss: OnLoss) -> None:
        self.spec, self.calls, self.on_outcomes, self.on_loss = spec, calls, on_outcomes, on_loss


class World:
    """Everything around one run at a time; it is the coordinator's services, gateway, sink and registry.

    Args:
        root: The storage folder.
        actions: Name -> function, for nodes that `tests.cases.words.node(id, name)` made; others are those of `words`.
        eager: Run tasks as soon as they are sent.
    """

    def __init__(
        self,
        root: Path,
        actions: Mapping[str, Callable[..., Any]] | None = None,
        *,
        clock: Clock | None = None,
        eager: bool = False,
    ) -> None:
        self.clock = clock or SimulatedClock()
        self.layout = Layout(root).prepare()
        self.batches: list[EventBatch] = []
        self.tasks: list[Task] = []
        self.cancelled: list[object] = []
        self.reports: list[Mapping[str, Any]] = []
        self.mailbox: deque[Message] = deque()
        self.run_id = ""
        self.interrupted = False
        self._actions = dict(actions or {})
        self._eager = eager
        self._lines: list[LogLine] = []
        self._clients: dict[Service, LogClient] = {}
        self.resources = ResourcesService(self.layout.resources, log=self.client("resources"), clock=self.clock)

    def close(self) -> None:
        """Let go of everything."""
        self.resources.close()
        for client in self._clients.values():
            client.close()

    # --- logs ----------------------------------------------------------------------------------------------------

    def client(self, service: Service) -> LogClient:
        """The log client of a service."""
        if service not in self._clients:
            self._clients[service] = LogClient(self._lines.extend, service, clock=self.clock)
        return self._clients[service]

    @property
    def lines(self) -> list[LogLine]:
        """Every line of log so far; of each service in order."""
        for client in self._clients.values():
            assert client.flush()
        return list(self._lines)

    def logged(self, service: Service, level: str | None = None) -> list[str]:
        """The event types that a service has logged, in order."""
        return [line.event_type for line in self.lines if line.service == service and level in {None, line.level}]

    def line(self, event_type: str) -> LogLine:
        """The one line of this type."""
        (line,) = [line for line in self.lines if line.event_type == event_type]
        return line

    # --- driving -------------------------------------------------------------------------------------------------

    def queue(self, definition: WorkflowDefinition, value: Any = None, *, trace: bool = True, **more: Any) -> RunRecord:
        """A start, as a client makes it."""
        version = self.resources.put_definition(canonical(definition.to_json()))
        request = StartRequest(workflow_name=definition.name, workflow_version=version, input=encode(value), trace=trace, **more)
        record, _ = self.resources.start_run(request)
        self.run_id = record.run_id
        return record

    @property
    def ports(self) -> Ports:
        """This world as a coordinator sees it."""
        log = self.client("coordinator")
        return Ports(services=self, gateway=self, sink=self, registry=self, children=FakeChildren(), log=log, clock=self.clock)

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """The event rows of another run."""
        return [
            msgspec.json.decode(line)
            for _, _, line in SqliteRunStore(self.layout.run_file(run_id), read_only=True).outbox("events")
        ]

    @contextmanager
    def opened(self, store: RunStore | None = None) -> Iterator[Coordinator]:
        """The run's coordinator, after its first turn."""
        own = store or SqliteRunStore(self.layout.run_file(self.run_id))
        try:
            with log_context(run_id=self.run_id):  # as the host does
                coordinator, first = open_coordinator(own, self.ports, str(self.layout.root), self.mailbox.append)
                coordinator.handle([Command(fact=fact, reply=lambda _answer: None) for fact in first])
                yield coordinator
        finally:
            own.close()

    def run(self, definition: WorkflowDefinition, value: Any = None, **how: Any) -> Coordinator:
        """A run from its start to its end."""
        self.queue(definition, value, **how)
        with self.opened() as coordinator:
            self.finish(coordinator)
        return coordinator

    def finish(self, coordinator: Coordinator) -> None:
        """Go on to the end."""
        while not coordinator.finished:
            self.work()
            self.handle(coordinator)

    def work(self) -> None:
        """Let executors do all that was sent to them."""
        while self.tasks:
            task = self.tasks.pop(0)
            task.on_outcomes(self.execute(task.spec, task.calls))

    def execute(self, spec: TaskSpec, calls: Sequence[Call]) -> Any:
        """What an executor makes of one task."""
        log = self.client("executor")
        return run_calls(spec, calls, loader=self, log=log, clock=self.clock, interrupted=lambda: self.interrupted)

    def lose(self, error: ErrorInfo) -> None:
        """The next task is lost on its way."""
        self.tasks.pop(0).on_loss(error)

    def handle(self, coordinator: Coordinator) -> None:
        """One turn for what has come; when nothing has, time passes until the coordinator wants to be woken."""
        if not self.mailbox:
            wake_us = coordinator.next_wake_us()
            assert wake_us is not None, "the run hangs"
            self.pass_time(max(0, wake_us - self.clock.now_us()) / 1_000_000)
        messages = list(self.mailbox) or [Wake()]
        self.mailbox.clear()
        coordinator.handle(messages)

    def pass_time(self, seconds: float) -> None:
        """Move the simulated clock."""
        assert isinstance(self.clock, SimulatedClock)
        self.clock.advance(seconds=seconds)

    # --- what has left the coordinator ---------------------------------------------------------------------------

    def rows(self, stream: str = "events") -> list[dict[str, Any]]:
        """The rows of a stream that were sent to the event service."""
        return [msgspec.json.decode(row) for batch in self.batches if batch.stream == stream for row in batch.lines.splitlines()]

    def events(self) -> list[str]:
        """The types of the workflow events that were sent."""
        return [row["event_type"] for row in self.rows()]

    def traces(self) -> list[str]:
        """The types of the trace events that were sent."""
        return [row["event_type"] for row in self.rows("trace")]

    # --- the ports -----------------------------------------------------------------------------------------------

    def claim(self, known: int) -> Claim:
        run = self.resources.get_run(self.run_id)
        definition = self.resources.get_definition(run.workflow_name, run.workflow_version)
        return Claim(epoch=self.resources.take_epoch(self.run_id, known, None), run=run, definition=definition)

    def open_events(self, run: RunInfo, epoch: int) -> OpenReply:
        return OpenReply(self._last("events"), 0, self._last("trace"), 0, [])

    def _last(self, stream: str) -> int:
        return max((batch.last for batch in self.batches if batch.stream == stream), default=0)

    def slots(self, resources: Mapping[str, Any]) -> int:
        return 4

    def submit(
        self, spec: TaskSpec, calls: Sequence[Call], resources: Mapping[str, Any], on_outcomes: OnOutcomes, on_loss: OnLoss
    ) -> object:
        task = Task(spec, calls, on_outcomes, on_loss)
        self.tasks.append(task)
        if self._eager:
            self.work()
        return task

    def cancel(self, handle: object) -> None:
        self.cancelled.append(handle)

    def append(self, batch: EventBatch, on_ack: Callable[[Ack], None], on_error: Callable[[Exception], None]) -> None:
        self.batches.append(batch)
        on_ack(Ack(batch.run.workflow_run_id, batch.stream, batch.last, 0, "ok"))

    def flush(self) -> None:
        pass

    def report(self, projection: Mapping[str, Any]) -> None:
        self.reports.append(projection)

    def resolve(self, bundle: str | None, *, target: str | None = None, name: str = "") -> Any:
        """The function of an action (`ActionLoader`)."""
        assert target is not None
        return self._actions.get(target.rpartition(":")[2]) or words.action(target)
