"""Runs definitions on the pure core: production planners and turns, simulated executors and clock, no Ray and no SQLite.

After every turn it checks that folding the events yields the state, that the stored records reload to it, and that the
counters and indexes are what the records say.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from tests.auditing import audit
from wonder_ray.clock import SimulatedClock
from wonder_ray.coordinator.loading import state_of
from wonder_ray.coordinator.machine import Machine, Turn
from wonder_ray.coordinator.traces import Tracer
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.errors import ActionError
from wonder_ray.fold import evolve, fold, new_state
from wonder_ray.planning import facts
from wonder_ray.state import TERMINAL_RUN, Child, ErrorRecord, Token
from wonder_ray.storage.memory import MemoryDisk, MemoryRunStore
from wonder_ray.workflow_events import TERMINAL_EVENTS, Stamp, decode_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.fold import Folding

    Action = Callable[..., Any]
    Order = Callable[[list[Token]], int]
    Durations = Callable[[Token], float]

RUN_ID = "run_0192f0c1a2b3_0123456789abcdef"


class CoreRun:
    """One run on the core; `actions` maps node ids to functions, all others return their input.

    Args:
        order: Which of the tasks in flight comes back next; by default the oldest.
        durations: Seconds that a token's task takes: results then come in the order of (simulated) time, and timeouts count.
        room: Most tokens in flight.
        crash_every_turn: Lose the coordinator after every turn.
        crash_at: Lose it after this turn only.
        trace: Collect trace events.
        checked: Check the invariants after every turn (else at the end only).
        run_id: The run's id.
    """

    def __init__(
        self,
        definition: WorkflowDefinition,
        actions: Mapping[str, Action] | None = None,
        *,
        order: Order | None = None,
        durations: Durations | None = None,
        room: int = 1_000_000,
        crash_every_turn: bool = False,
        crash_at: int | None = None,
        trace: bool = False,
        checked: bool = True,
        run_id: str = RUN_ID,
    ) -> None:
        self.definition = definition
        self.graph = compile_graph(definition)
        self.actions = dict(actions or {})
        self.clock = SimulatedClock()
        self.disk = MemoryDisk()
        self.store = MemoryRunStore(self.disk)
        self.state = new_state(run_id)
        self._folded = new_state(run_id)
        self.tracer = Tracer(0) if trace else None
        self.machine = Machine(self.graph, self.state, epoch=1, tracer=self.tracer)
        self.flying: list[Token] = []
        self.back_us: dict[str, int] = {}
        """When each task in flight comes back, where durations are given."""
        self.started: list[str] = []
        """Node ids, in the order in which their tasks were started."""
        self.most_flying: Counter[str] = Counter()
        """The most tasks of each node that were ever in flight together."""
        self.rows: list[dict[str, Any]] = []
        self.lines: list[bytes] = []
        self.traces: list[dict[str, Any]] = []
        self.children: dict[str, Child] = {}
        """Child runs that have been asked for, and have not ended."""
        self.child: Callable[[Child], facts.ChildEnded] = lambda child: facts.ChildEnded(
            child_id=child.id, status="completed", output=child.input
        )
        """What becomes of a child run; by default it gives back its input. One that was told to end is cancelled."""
        self.turns = 0
        self.told: list[tuple[int, int, tuple[facts.Fact, ...]]] = []
        """What each turn was given: the time, the room, the facts."""
        self._order = order or (lambda _flying: 0)
        self._durations = durations
        self._room = room
        self._crash_every_turn = crash_every_turn
        self._crash_at = crash_at
        self._checked = checked

    # --- driving -------------------------------------------------------------------------------------------------

    def run(self, value: Any = None) -> CoreRun:
        """From the start to the end."""
        self.start(value)
        return self.run_on()

    def run_on(self) -> CoreRun:
        """From where it stands to the end, or to where it waits for the world."""
        while self.step():
            pass
        self.check_whole()
        return self

    def start(self, value: Any = None) -> None:
        """The first turn."""
        self.turn(facts.StartRun(input=value, workflow_name="test", workflow_version="v"))

    def step(self) -> bool:
        """One more result, or (when nothing is in flight) the next alarm; False at the end."""
        if self.state.run.status in TERMINAL_RUN:
            return False
        due_us = self.state.next_due_us()
        if self.children and not self.flying:
            self.end_child(next(iter(self.children)))
            return True
        if self._durations is not None and self.flying:
            at, token = min(((self.back_us[token.id], token) for token in self.flying), key=lambda pair: pair[0])
            if due_us is None or at < due_us:
                self._wait_until(at)
                self.flying.remove(token)
                self.turn(self.outcome(token))
                return True
        elif self.flying:
            token = self.flying.pop(self._order(self.flying))
            self.turn(self.outcome(token))
            return True
        if due_us is None or (not self.flying and self.state.index.ready):
            if not self.state.index.ready and self.status in {"waiting", "paused"}:
                return False  # for the world
            assert self.state.index.ready, f"the run hangs: {self.state.durable()['tokens']}"
            self.turn(facts.Alarm())  # what was withdrawn has left room
            return True
        self._wait_until(due_us)
        self.turn(facts.Alarm())
        return True

    def _wait_until(self, at_us: int) -> None:
        self.clock.advance(seconds=max(0, at_us - self.clock.now_us()) / 1_000_000)

    def say(self, fact: facts.CommandFact) -> dict[str, Any]:
        """Give a command; its answer, or the error with which it was refused."""
        (reply,) = self.turn(fact).replies
        if isinstance(reply, Exception):
            raise reply
        return reply

    def end_child(self, child_id: str) -> None:
        """A child run comes to its end."""
        child = self.children.pop(child_id)
        if child.cancelled is None:
            self.turn(self.child(child))
        else:
            self.turn(facts.ChildEnded(child_id=child_id, status="cancelled", error=ErrorRecord("Cancelled", child.cancelled)))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and what is due then happen."""
        self.clock.advance(seconds=seconds)
        self.turn(facts.Alarm())

    def finish(self, node_id: str, branch: int = 0) -> None:
        """Let the `branch`-th task in flight of a node come back now."""
        token = self.of(node_id)[branch]
        self.flying.remove(token)
        self.turn(self.outcome(token))

    def of(self, node_id: str) -> list[Token]:
        """The tasks in flight of a node."""
        return [token for token in self.flying if token.node_id == node_id]

    def outcome(self, token: Token) -> facts.TaskFact:
        """What the executor makes of a token."""
        attempt = attempt_of(token)
        action: Action = self.actions.get(token.node_id, lambda **given: next(iter(given.values()), None))
        try:
            return facts.TaskSucceeded(**attempt, result=action(**(token.input or {})))
        except ActionError as error:
            return facts.TaskErrored(
                **attempt, error=ErrorRecord(error.type, error.message, error.retryable, "user", token.node_id)
            )
        except Exception as error:  # noqa: BLE001 - whatever an action raises is its failure
            return facts.TaskErrored(**attempt, error=ErrorRecord(type(error).__name__, str(error), node_id=token.node_id))

    def turn(self, *batch: facts.Fact) -> Turn:
        """One turn, committed and checked."""
        room = self._room - len(self.flying)
        self.told.append((self.clock.now_us(), room, batch))
        turn = self.machine.turn(batch, now_us=self.clock.now_us(), room=lambda _node: room)
        self.store.commit(turn.record)
        self.turns += 1
        self.lines.extend(line for _, line in turn.record.events)
        self.rows.extend(msgspec.json.decode(line) for _, line in turn.record.events)
        self.traces.extend(msgspec.json.decode(line) for _, line in turn.record.traces)
        self._release(turn)
        if self._checked:
            self.check()
        if (self._crash_every_turn or self.turns == self._crash_at) and not turn.ended:
            self.crash()
        return turn

    def _release(self, turn: Turn) -> None:
        withdrawn = {token_id for token_id, _ in turn.withdrawn}
        self.flying = [token for token in self.flying if token.id not in withdrawn] + turn.dispatched
        self.started.extend(token.node_id for token in turn.dispatched)
        self.children.update((child.id, msgspec.structs.replace(child)) for child in turn.children)
        for node_id, count in Counter(token.node_id for token in self.flying).items():
            self.most_flying[node_id] = max(self.most_flying[node_id], count)
        if self._durations is not None:
            for token in turn.dispatched:
                self.back_us[token.id] = self.clock.now_us() + round(self._durations(token) * 1_000_000)

    def crash(self) -> None:
        """Lose the coordinator: reload the state, and void what was in flight."""
        self.store.crash()
        self.store = MemoryRunStore(self.disk)
        stored = self.store.load()
        assert stored is not None
        self.state = state_of(stored)
        epoch = self.machine.epoch + 1
        self.machine = Machine(self.graph, self.state, epoch=epoch, tracer=self.tracer)
        self.flying = []
        self.children = {child.id: msgspec.structs.replace(child) for child in self.state.children.values()}
        self._crash_every_turn, again = False, self._crash_every_turn
        self.turn(facts.Reopened(previous_epoch=epoch - 1))
        self._crash_every_turn = again

    # --- checking ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Invariants 3, 4 and 10, and the state's own consistency."""
        assert [row["sequence_number"] for row in self.rows] == list(range(1, len(self.rows) + 1))
        now = self.state.durable()
        assert self._fold_new_rows().durable() == now
        stored = self.store.load()
        assert stored is not None
        reloaded = state_of(stored)
        assert reloaded.durable() == now
        audit(self.state, reloaded, self.graph)
        ends = [row for row in self.rows if row["event_type"] in TERMINAL_EVENTS]
        assert len(ends) == (self.state.run.status in TERMINAL_RUN)
        if ends:
            assert ends[0] is self.rows[-1]

    def check_whole(self) -> None:
        """As `check`, and with all events folded anew."""
        self.check()
        assert fold(self.state.run.run_id, self.rows).durable() == self.state.durable()

    def _fold_new_rows(self) -> Folding:
        """The state that the events give: those since it was last asked for are applied to what those before had given."""
        for row in self.rows[self._folded.run.sequence :]:
            stamp = Stamp(row["sequence_number"], row["turn"], row["turn_now"], row["epoch"])
            evolve(self._folded, decode_event(row), stamp)
        return self._folded

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The run's status."""
        return str(self.state.run.status)

    @property
    def output(self) -> Any:
        """The run's output."""
        return self.state.run.output

    @property
    def error(self) -> ErrorRecord | None:
        """The run's error."""
        return self.state.run.error

    @property
    def completed(self) -> Counter[str]:
        """How often each node completed."""
        return Counter(row["node_id"] for row in self.rows if row["event_type"] == "node_completed")

    @property
    def failed_attempts(self) -> Counter[str]:
        """How many attempts of each node failed."""
        return Counter(row["node_id"] for row in self.rows if row["event_type"] == "task.failed")

    def position(self, event_type: str, node_id: str, nth: int = 0) -> int:
        """The sequence number of the nth event of a type at a node."""
        return self.positions(event_type, node_id)[nth]

    def positions(self, event_type: str, node_id: str) -> list[int]:
        """The sequence numbers of the events of a type at a node."""
        return [r["sequence_number"] for r in self.rows if r["event_type"] == event_type and r.get("node_id") == node_id]

    def events(self, event_type: str) -> list[dict[str, Any]]:
        """The rows of one type, metadata decoded."""
        return [row | msgspec.json.decode(row.get("metadata", "{}")) for row in self.rows if row["event_type"] == event_type]


def replay(run: CoreRun) -> list[bytes]:
    """The event lines that the recorded facts yield when one machine, which never stops, is told them turn by turn."""
    machine = Machine(run.graph, new_state(RUN_ID), epoch=1)
    lines: list[bytes] = []
    for now_us, room, batch in run.told:
        for fact in batch:
            if isinstance(fact, facts.Reopened):
                machine.epoch = fact.previous_epoch + 1
        turn = machine.turn(batch, now_us=now_us, room=lambda _node, room=room: room)  # type: ignore[misc] # bound now
        lines.extend(line for _, line in turn.record.events)
    return lines


def attempt_of(token: Token) -> dict[str, Any]:
    """What a fact about the token's open attempt names."""
    return {"token_id": token.id, "attempt": token.attempt, "epoch": token.epoch}


class Script:
    """An order of arrival that follows a list of choices and then takes the oldest, noting what else it could have done."""

    def __init__(self, choices: list[int]) -> None:
        self.choices = choices
        self.taken: list[tuple[int, int]] = []

    def __call__(self, moves: Sequence[object]) -> int:
        at = len(self.taken)
        choice = self.choices[at] if at < len(self.choices) else 0
        self.taken.append((choice, len(moves)))
        return choice


def every_order(most: int = 100_000) -> Iterator[Script]:
    """One `Script` per possible order of arrival, for as long as each is used in a run before the next is asked for."""
    choices: list[int] = []
    for _ in range(most):
        script = Script(choices)
        yield script
        taken = script.taken
        while taken and taken[-1][0] + 1 >= taken[-1][1]:
            taken.pop()
        if not taken:
            return
        choices = [choice for choice, _ in taken]
        choices[-1] += 1
    msg = f"there are more than {most} orders"
    raise AssertionError(msg)


def random_order(seed: int) -> Order:
    """An order of arrival by seeded chance."""
    chance = random.Random(seed)
    return lambda flying: chance.randrange(len(flying))
