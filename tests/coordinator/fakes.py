"""The outside of a coordinator, simulated: tasks, event service and registry that answer when a test says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.clock import SimulatedClock
from wonder_ray.coordinator.messages import Command, Message, Wake
from wonder_ray.coordinator.opening import Claim, Ports, open_coordinator
from wonder_ray.events.wire import Ack, EventBatch, OpenReply, RunInfo
from wonder_ray.executor.protocol import Call, ErrorInfo, Outcome, TaskSpec
from wonder_ray.resources.records import DefinitionRecord, RunRecord
from wonder_ray.state import RunStatus
from wonder_ray.storage.memory import MemoryDisk, MemoryRunStore
from wonder_ray.values import canonical, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wonder_ray.coordinator.coordinator import Coordinator
    from wonder_ray.coordinator.ports import OnLoss, OnOutcomes
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.planning.facts import Fact
    from wonder_ray.state import Child

RUN_ID = "run_0192f0c1a2b3_0123456789abcdef"
INFO = RunInfo(RUN_ID, "default", "default", RUN_ID, None, "test", "v")
NOTHING_HELD = OpenReply(0, 0, 0, 0, [])
LOST = ErrorInfo("WorkerCrashedError", "the worker died", retryable=True, kind="lost")


@dataclass
class SentTask:
    """One task as the gateway was given it."""

    spec: TaskSpec
    calls: list[Call]
    resources: dict[str, Any]
    on_outcomes: OnOutcomes
    on_loss: OnLoss
    is_back: bool = False

    def succeed(self, result: Any = None, duration_ms: float = 1.0) -> None:
        self._come_back()
        self.on_outcomes(
            [
                Outcome(call.token_id, call.attempt, self.spec.epoch, encode(result), None, 0, duration_ms, pid=7)
                for call in self.calls
            ]
        )

    def fail(self, error: ErrorInfo) -> None:
        self._come_back()
        self.on_outcomes(
            [Outcome(call.token_id, call.attempt, self.spec.epoch, None, error, 0, 1.0, pid=7) for call in self.calls]
        )

    def lose(self, error: ErrorInfo = LOST) -> None:
        self._come_back()
        self.on_loss(error)

    def _come_back(self) -> None:
        assert not self.is_back, "a task comes back once"
        self.is_back = True


class FakeGateway:
    def __init__(self, slots: int = 4) -> None:
        self.sent: list[SentTask] = []
        self.cancelled: list[SentTask] = []
        self._slots = slots

    def slots(self, resources: Mapping[str, Any]) -> int:
        return self._slots

    def submit(
        self, spec: TaskSpec, calls: Sequence[Call], resources: Mapping[str, Any], on_outcomes: OnOutcomes, on_loss: OnLoss
    ) -> object:
        self.sent.append(SentTask(spec, list(calls), dict(resources), on_outcomes, on_loss))
        return self.sent[-1]

    def cancel(self, handle: object) -> None:
        assert isinstance(handle, SentTask)
        self.cancelled.append(handle)


class FakeSink:
    """An event service that keeps what it is given, and answers when told."""

    def __init__(self) -> None:
        self.waiting: list[tuple[EventBatch, Callable[[Ack], None], Callable[[Exception], None]]] = []
        self.flushes = 0

    def append(self, batch: EventBatch, on_ack: Callable[[Ack], None], on_error: Callable[[Exception], None]) -> None:
        self.waiting.append((batch, on_ack, on_error))

    def flush(self) -> None:
        self.flushes += 1

    def acknowledge(self, *, mark: int | None = None, sealed: int = 0, outcome: Any = "ok") -> EventBatch:
        batch, on_ack, _ = self.waiting.pop(0)
        on_ack(Ack(RUN_ID, batch.stream, batch.last if mark is None else mark, sealed, outcome))
        return batch

    def fail(self) -> EventBatch:
        batch, _, on_error = self.waiting.pop(0)
        on_error(ConnectionError("the event service is away"))
        return batch


class FakeRegistry:
    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    def report(self, projection: Mapping[str, Any]) -> None:
        self.reports.append(dict(projection))


class FakeChildren:
    """Notes which child runs were asked for, and in what state."""

    def __init__(self) -> None:
        self.asked: list[Child] = []

    def follow(self, child: Child, *, depth: int, compensate: bool) -> None:
        self.asked.append(msgspec.structs.replace(child))


class FakeLog:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, event_type: str, message: str = "", **fields: Any) -> None:
        self.lines.append((event_type, message))

    def warning(self, event_type: str, message: str = "", **fields: Any) -> None:
        self.lines.append((event_type, message))

    def error(self, event_type: str, message: str = "", **fields: Any) -> None:
        self.lines.append((event_type, message))

    @property
    def types(self) -> list[str]:
        return [event_type for event_type, _ in self.lines]


@dataclass
class FakeServices:
    """Registry and event service as an opening meets them."""

    definition: WorkflowDefinition
    input: Any = None
    trace: bool = False
    epoch: int = 0
    opened: OpenReply = NOTHING_HELD
    asked: list[str] = field(default_factory=list)
    histories: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    fork: bytes | None = None

    def claim(self, known: int) -> Claim:
        self.asked.append("claim")
        self.epoch = max(self.epoch, known) + 1
        content = canonical(self.definition.to_json())
        record = DefinitionRecord(
            workspace_id="default", name=self.definition.name, version="v", definition=content, bundle=None, created_us=1
        )
        run = RunRecord(
            run_id=RUN_ID,
            workspace_id="default",
            project_id="default",
            key=None,
            workflow_name=self.definition.name,
            workflow_version="v",
            root_run_id=RUN_ID,
            parent_run_id=None,
            input=encode(self.input),
            trace=self.trace,
            labels={},
            created_us=1,
            epoch=self.epoch,
            placement=None,
            status=RunStatus.QUEUED,
            fork=self.fork,
        )
        return Claim(epoch=self.epoch, run=run, definition=record)

    def history(self, run_id: str) -> list[dict[str, Any]]:
        return self.histories[run_id]

    def open_events(self, run: RunInfo, epoch: int) -> OpenReply:
        self.asked.append("open")
        return self.opened


class World:
    """One run, its coordinator, and everything around it; `crash` and `open` go on from what is committed."""

    def __init__(self, definition: WorkflowDefinition, value: Any = None, *, trace: bool = False, slots: int = 4) -> None:
        self.services = FakeServices(definition, value, trace)
        self.disk = MemoryDisk()
        self.gateway = FakeGateway(slots)
        self.sink = FakeSink()
        self.registry = FakeRegistry()
        self.children = FakeChildren()
        self.log = FakeLog()
        self.clock = SimulatedClock()
        self.mailbox: list[Message] = []
        """Of the coordinator that lives; what comes for an earlier one reaches nobody."""
        self.fault: Callable[[str], None] | None = None
        self.store: MemoryRunStore
        self.coordinator: Coordinator

    def open(self) -> World:
        """Open the run, and handle its first turn."""
        self.store = MemoryRunStore(self.disk, fault=self._fault)
        self.mailbox = []
        ports = Ports(
            services=self.services,
            gateway=self.gateway,
            sink=self.sink,
            registry=self.registry,
            children=self.children,
            log=self.log,
            clock=self.clock,
        )
        self.coordinator, first = open_coordinator(self.store, ports, "/storage", self.mailbox.append)
        self.handle(*(Command(fact=fact, reply=lambda _answer: None) for fact in first))
        return self

    def _fault(self, where: str) -> None:
        if self.fault is not None:
            self.fault(where)

    def crash(self) -> None:
        """The process is gone; what was sent to it is lost."""
        self.store.crash()
        self.sink.waiting.clear()
        for task in self.out:
            task.is_back = True

    def handle(self, *messages: Message) -> None:
        """One turn for these and all that has come."""
        drained, self.mailbox[:] = [*messages, *self.mailbox], []
        self.coordinator.handle(drained or [Wake()])

    def command(self, fact: Fact, key: str | None = None) -> list[Any]:
        """Handle a command; what its caller has heard."""
        heard: list[Any] = []
        self.handle(Command(fact=fact, reply=heard.append, key=key))
        return heard

    def tick(self, seconds: float = 1.0) -> None:
        """Time passes, and the coordinator is woken."""
        self.clock.advance(seconds=seconds)
        self.handle()

    @property
    def out(self) -> list[SentTask]:
        """The tasks that have not come back."""
        return [task for task in self.gateway.sent if not task.is_back]

    @property
    def status(self) -> str:
        """How the run stands."""
        return str(self.coordinator._machine.state.run.status)

    def committed(self) -> list[int]:
        """The sequence numbers that are on the disk."""
        return sorted(self.disk.outboxes["events"])
