"""One run in a simulated world: its file, the lives of its coordinator, and what is watched of each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.chance import between, draw
from tests.simulation.children import SimulatedChildren
from tests.simulation.executors import Ledger, SimulatedGateway
from tests.simulation.outside import NoLog, Projection, Sink, WatchedStore
from tests.simulation.violations import Crash, Violation, require
from tests.simulation.watching import Watch
from wonder_ray.coordinator.messages import Command, Message, Wake
from wonder_ray.coordinator.opening import Claim, Ports, open_coordinator
from wonder_ray.errors import ServiceUnavailableError, StaleEpochError, StorageError, WonderError
from wonder_ray.resources.records import DefinitionRecord, RunRecord
from wonder_ray.state import RunStatus
from wonder_ray.storage.memory import MemoryDisk
from wonder_ray.values import canonical, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World
    from wonder_ray.coordinator.coordinator import Coordinator
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.events.wire import EventBatch, OpenReply, RunInfo
    from wonder_ray.planning.facts import Fact
    from wonder_ray.state import Child, Group, Token
    from wonder_ray.storage.records import TurnRecord

MS: Final = 1_000


class Process:
    """One life of a coordinator: a mailbox, drained now and then, and the clock that wakes it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.world = site.world
        self.number = len(site.lives)
        self.mailbox: list[Message] = []
        self.is_dead = False
        self.is_stopped = False
        self.may_fail = False
        """Whether an error was injected that ends it."""
        self.store: WatchedStore | None = None
        self.coordinator: Coordinator | None = None
        self.watch: Watch | None = None
        self.gateway = SimulatedGateway(self)
        self._drains = 0
        self._is_drain_due = False
        self._wake_us: int | None = None

    # --- living --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the run, and handle its first turn; when that is refused, it is tried again."""
        if self.world.strike("open"):
            self.world.note("opening_refused")
            self.die()
            return
        self._guarded(self._open)

    def _open(self) -> None:
        self.store = WatchedStore(self.site.disk, self)
        ports = Ports(
            services=self.site,
            gateway=self.gateway,
            sink=Sink(self),
            registry=Projection(self.site),
            children=SimulatedChildren(self),
            log=NoLog(),
            clock=self.world.clock,
        )
        self.coordinator, first = open_coordinator(self.store, ports, "/storage", self.post)
        self.site.ruling = self
        self.watch = Watch(self.site, self.coordinator)
        self.coordinator.handle([Command(fact=fact, reply=lambda _answer: None) for fact in first])
        self.coordinator.follow_children()
        if not self.coordinator.ended:
            self.coordinator.report()

    def post(self, message: Message) -> None:
        """Put a message into the mailbox."""
        if self.is_dead:
            return
        self.mailbox.append(message)
        self._plan_drain()

    def _plan_drain(self) -> None:
        if self._is_drain_due or self.is_stopped:
            return
        self._is_drain_due = True
        self._drains += 1
        name = ("drain", self.site.run_id, self.number, self._drains)
        wait_us = between(self.world.plan.seed, 0, 2_000, *name)
        faults = self.world.strike("mail")
        for fault in faults:
            if fault.kind == "mail_delayed":
                self.world.note(fault.kind)
            wait_us += between(self.world.plan.seed, 50, 2_000, "busy", *name) * MS
        shuffle = any(fault.kind == "mail_reordered" for fault in faults)
        self.world.after(wait_us, lambda: self._drain(shuffle=shuffle))

    def _drain(self, *, shuffle: bool) -> None:
        self._is_drain_due = False
        if self.is_dead or self.is_stopped:
            return
        messages, self.mailbox = self.mailbox, []
        if shuffle and len(messages) > 1:
            self.world.note("mail_reordered")
            messages.sort(key=lambda message: draw(self.world.plan.seed, "order", self._drains, id_of(message)))
        self._guarded(lambda: self._handle(messages))

    def _handle(self, messages: list[Message]) -> None:
        assert self.coordinator is not None
        self.coordinator.handle(messages or [Wake()])

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do something that may end this life; whatever was not injected is a violation."""
        try:
            work()
        except Crash:
            self.die()
        except StaleEpochError as error:
            require(self.is_superseded, "I8", f"the only coordinator was fenced off: {error}")
            self.die()
        except ServiceUnavailableError:
            self.die()
        except StorageError as error:
            require(self.may_fail, "I8" if self.is_superseded else "turn", f"the store failed: {error}")
            self.die()
        except (WonderError, KeyError, IndexError, ValueError, TypeError, AttributeError, AssertionError) as error:
            raise Violation("turn", f"a turn raised {type(error).__name__}: {error}") from error
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self.site.ruling is self:
            self.gateway.check_stopped()
        coordinator = self.coordinator
        if coordinator is None or coordinator.finished:
            self.retire()
            return
        wake_us = coordinator.next_wake_us()
        if wake_us is not None and wake_us != self._wake_us:
            self._wake_us = wake_us
            self.world.after(max(0, wake_us - self.world.clock.now_us()), lambda: self._wake(wake_us))

    def _wake(self, at_us: int) -> None:
        if self.is_dead or self._wake_us != at_us:
            return
        self._wake_us = None
        self._plan_drain()

    @property
    def is_superseded(self) -> bool:
        """Whether a later life has begun."""
        return self.site.lives[-1] is not self

    # --- dying ---------------------------------------------------------------------------------------------------

    def die(self) -> None:
        """The process is gone, with its mailbox; somebody notices and starts the next one."""
        if self.is_dead:
            return
        self.is_dead = True
        if self.store is not None:
            self.store.crash()
        if not self.is_superseded:
            wait_us = between(self.world.plan.seed, 10, 3_000, "restart", self.site.run_id, self.number) * MS
            self.world.after(wait_us, self.site.live)
        self._refuse_the_rest()

    def retire(self) -> None:
        """The run has ended, and its events are safe."""
        self.is_dead = True
        if self.store is not None:
            self.store.close()
        self.site.is_finished = True
        self._refuse_the_rest()

    def _refuse_the_rest(self) -> None:
        rest, self.mailbox = self.mailbox, []
        for message in rest:
            if isinstance(message, Command):
                message.reply(ServiceUnavailableError("the coordinator has ended; ask again"))

    def stop(self) -> None:
        """The process is stopped, not killed: it thinks that it lives."""
        self.is_stopped = True
        self.site.disk.opened_by = None
        self.world.zombies += 1

    def go_on_as_zombie(self) -> None:
        """It is continued, after a successor has begun."""
        self.is_stopped = False
        self._is_drain_due = False
        if not self.is_dead:
            self._plan_drain()
        self.world.after(5 * MS, self._bury)

    def _bury(self) -> None:
        """A zombie that has found nothing to do is of no more interest."""
        self.world.zombies -= 1
        self.die()

    def committed(self, record: TurnRecord) -> None:
        """A turn is durable."""
        assert self.watch is not None
        assert self.store is not None
        require(self.site.ruling is self, "I8", f"a coordinator of epoch {record.epoch} committed beside its successor")
        self.watch.turn_is_durable(record, self.store)


def id_of(message: Message) -> str:
    """Something that tells messages apart, the same in every world of a seed."""
    number = getattr(message, "number", None)
    return f"{type(message).__name__} {number}"


class Site:
    """One run: its file, and everything that outlives its coordinators."""

    def __init__(
        self, world: World, run_id: str, definition: WorkflowDefinition, value: Any, *, parent: Site | None = None, depth: int = 0
    ) -> None:
        self.world = world
        self.parent = parent
        self.depth = depth
        self.run_id = run_id
        self.definition = definition
        self.input = value
        self.disk = MemoryDisk()
        self.lives: list[Process] = []
        self.ruling: Process | None = None
        """The last life that has opened the run: no earlier one may change anything any more."""
        self.epoch = 0
        self.ledger = Ledger()
        self.lines: list[bytes] = []
        """Every event line that was ever committed."""
        self.tokens: dict[str, Token] = {}
        """What the file says of each token."""
        self.groups: dict[str, Group] = {}
        self.children: dict[str, Child] = {}
        self.recorded: Counter[str] = Counter()
        """Key of a command -> how often an event records it."""
        self.is_told_to_end = False
        self._listeners: list[Callable[[], None]] = []
        self.is_finished = False
        self.is_tamed = False
        self.acknowledged: set[str] = set()
        """Keys of commands whose callers heard yes."""
        self.reported: str | None = None
        self.told: list[Any] = []
        """What every committed turn was told (see `watching.Told`)."""
        self.auditor = world.new_auditor(self)

    def live(self) -> None:
        """Begin a new life of the coordinator."""
        if self.is_finished:
            return
        process = Process(self)
        self.lives.append(process)
        process.open()

    @property
    def process(self) -> Process:
        """The life that counts."""
        return self.lives[-1]

    @property
    def run_status(self) -> str:
        """How the run stands, as the file says."""
        return self.auditor.status

    def when_ended(self, tell: Callable[[], None]) -> None:
        """Tell somebody when the run has ended, which may be now."""
        self._listeners.append(tell)
        if self.auditor.ended is not None:
            self.has_ended()

    def has_ended(self) -> None:
        """The terminal event is durable."""
        listeners, self._listeners = self._listeners, []
        for nth, tell in enumerate(listeners):
            self.world.after(between(self.world.plan.seed, 1, 500, "tells", self.run_id, nth) * MS, tell)

    def signal_of(self, node_id: str) -> str:
        """The signal that a node waits for."""
        return next(name for name, nodes in self.auditor.reading.listeners.items() if node_id in nodes)

    def is_guarded(self, node_id: str) -> bool:
        """Whether a guard that only an update can open stands before a node."""
        node = self.auditor.reading.nodes.get(node_id)
        return node is not None and node.guard is not None and "door" in node.guard

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """The event rows of another run."""
        return self.world.history(run_id)

    def token_on_disk(self, token_id: str) -> Token | None:
        """What is committed of a token."""
        return self.tokens.get(token_id)

    def send(self, fact: Fact, reply: Callable[[Any], None], key: str | None) -> None:
        """A caller sends a command to whatever coordinator lives; where none does, the caller hears so."""
        process = self.lives[-1] if self.lives else None
        if process is None or process.is_dead:
            reply(ServiceUnavailableError("no coordinator lives"))
        else:
            process.post(Command(fact=fact, reply=reply, key=key))

    def check_published(self, batch: EventBatch) -> None:
        """Invariant 1: only what is committed is published, as it was committed."""
        lines = batch.lines.split(b"\n")
        require(
            self.lines[batch.first - 1 : batch.last] == lines, "I1", f"events {batch.first} to {batch.last} are not committed so"
        )

    # --- what an opening asks -----------------------------------------------------------------------------------

    def claim(self, known: int) -> Claim:
        """The next epoch."""
        self.epoch = max(self.epoch, known) + 1
        definition = self.definition
        content = canonical(definition.to_json())
        record = DefinitionRecord(
            workspace_id="default", name=definition.name, version="v", definition=content, bundle=None, created_us=1
        )
        run = RunRecord(
            run_id=self.run_id,
            workspace_id="default",
            project_id="default",
            key=None,
            workflow_name=definition.name,
            workflow_version="v",
            root_run_id=self.run_id if self.parent is None else self.parent.run_id,
            parent_run_id=None if self.parent is None else self.parent.run_id,
            depth=self.depth,
            input=encode(self.input),
            trace=False,
            labels={},
            created_us=1,
            epoch=self.epoch,
            placement=None,
            status=RunStatus.QUEUED,
        )
        return Claim(epoch=self.epoch, run=run, definition=record)

    def open_events(self, run: RunInfo, epoch: int) -> OpenReply:
        """Fence older coordinators off."""
        if not self.world.events.is_up(self.world.now_us):
            msg = "the event service is away"
            raise ServiceUnavailableError(msg)
        return self.world.events.open(run.workflow_run_id, epoch)
