"""Runs definitions on the pure core: production planners and turns, simulated executors and clock, no Ray and no SQLite.

After every turn it checks that folding the events yields the state, and that the stored records reload to it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.clock import SimulatedClock
from wonder_ray.coordinator.loading import state_of
from wonder_ray.coordinator.machine import Machine, Turn
from wonder_ray.coordinator.traces import Tracer
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.errors import ActionError
from wonder_ray.fold import fold, new_state
from wonder_ray.planning import facts
from wonder_ray.state import TERMINAL_RUN, ErrorRecord, Token
from wonder_ray.storage.memory import MemoryRunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wonder_ray.definitions.models import WorkflowDefinition

    Action = Callable[..., Any]
    Order = Callable[[list[Token]], int]


class CoreRun:
    """One run on the core; `actions` maps node ids to functions, all others return their input."""

    def __init__(
        self,
        definition: WorkflowDefinition,
        actions: Mapping[str, Action] | None = None,
        *,
        order: Order | None = None,
        room: int = 1_000_000,
        crash_every_turn: bool = False,
        trace: bool = False,
    ) -> None:
        self.graph = compile_graph(definition)
        self.actions = dict(actions or {})
        self.clock = SimulatedClock()
        self.store = MemoryRunStore()
        self.state = new_state("run_0192f0c1a2b3_0123456789abcdef")
        self.tracer = Tracer(0) if trace else None
        self.machine = Machine(self.graph, self.state, epoch=1, tracer=self.tracer)
        self.flying: list[Token] = []
        self.started: list[str] = []
        """Node ids, in the order in which their tasks were started."""
        self.rows: list[dict[str, Any]] = []
        self.traces: list[dict[str, Any]] = []
        self._order = order or (lambda _flying: 0)
        self._room = room
        self._crash_every_turn = crash_every_turn

    # --- driving -------------------------------------------------------------------------------------------------

    def run(self, value: Any = None) -> CoreRun:
        """From the start to the end."""
        self.start(value)
        while self.step():
            pass
        return self

    def start(self, value: Any = None) -> None:
        """The first turn."""
        self.turn(facts.StartRun(input=value, workflow_name="test", workflow_version="v"))

    def step(self) -> bool:
        """One more result, or (when nothing is in flight) the next alarm; False at the end."""
        if self.state.run.status in TERMINAL_RUN:
            return False
        if self.flying:
            token = self.flying.pop(self._order(self.flying))
            self.turn(self.outcome(token))
            return True
        due_us = self.state.next_due_us()
        assert due_us is not None, f"the run hangs: {self.state.durable()['tokens']}"
        self.clock.advance(seconds=max(0, due_us - self.clock.now_us()) / 1_000_000)
        self.turn(facts.Alarm())
        return True

    def finish(self, node_id: str, branch: int = 0) -> None:
        """Let the `branch`-th task in flight of a node come back now."""
        token = [token for token in self.flying if token.node_id == node_id][branch]
        self.flying.remove(token)
        self.turn(self.outcome(token))

    def outcome(self, token: Token) -> facts.TaskFact:
        """What the executor makes of a token."""
        attempt = {"token_id": token.id, "attempt": token.attempt, "epoch": token.epoch}
        action = self.actions.get(token.node_id, lambda **given: next(iter(given.values()), None))
        try:
            return facts.TaskSucceeded(**attempt, result=action(**token.input))
        except ActionError as error:
            return facts.TaskErrored(**attempt, error=ErrorRecord(error.type, error.message, error.retryable, "user", token.node_id))
        except Exception as error:
            return facts.TaskErrored(**attempt, error=ErrorRecord(type(error).__name__, str(error), node_id=token.node_id))

    def turn(self, *batch: facts.Fact) -> Turn:
        """One turn, committed and checked."""
        turn = self.machine.turn(batch, now_us=self.clock.now_us(), room=lambda _node: self._room - len(self.flying))
        self.store.commit(turn.record)
        self.rows.extend(msgspec.json.decode(line) for _, line in turn.record.events)
        self.traces.extend(msgspec.json.decode(line) for _, line in turn.record.traces)
        withdrawn = {token_id for token_id, _ in turn.withdrawn}
        self.flying = [token for token in self.flying if token.id not in withdrawn] + turn.dispatched
        self.started.extend(token.node_id for token in turn.dispatched)
        self.check()
        if self._crash_every_turn and not turn.ended:
            self.crash()
        return turn

    def crash(self) -> None:
        """Lose the coordinator: reload the state, and void what was in flight."""
        stored = self.store.load()
        assert stored is not None
        self.state = state_of(stored)
        epoch = self.machine.epoch + 1
        self.machine = Machine(self.graph, self.state, epoch=epoch)
        self.flying = []
        self._crash_every_turn, again = False, self._crash_every_turn
        self.turn(facts.Reopened(previous_epoch=epoch - 1))
        self._crash_every_turn = again

    # --- checking ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Invariants 3, 4 and 10."""
        assert [row["sequence_number"] for row in self.rows] == list(range(1, len(self.rows) + 1))
        now = self.state.durable()
        assert fold(self.state.run.run_id, self.rows).durable() == now
        stored = self.store.load()
        assert stored is not None
        assert state_of(stored).durable() == now
        ends = [row for row in self.rows if row["event_type"] in {f"workflow.{s}" for s in ("completed", "failed", "timed_out", "cancelled")}]
        assert len(ends) == (self.state.run.status in TERMINAL_RUN)
        if ends:
            assert self.state.index.live == 0, "live tokens after the terminal event"
            assert ends[0] is self.rows[-1]

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

    def position(self, event_type: str, node_id: str, nth: int = 0) -> int:
        """The sequence number of the nth event of a type at a node."""
        return [r["sequence_number"] for r in self.rows if r["event_type"] == event_type and r.get("node_id") == node_id][nth]

    def events(self, event_type: str) -> list[dict[str, Any]]:
        """The rows of one type, metadata decoded."""
        return [
            row | msgspec.json.decode(row.get("metadata", "{}")) for row in self.rows if row["event_type"] == event_type
        ]
