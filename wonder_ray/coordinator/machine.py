"""One run as a machine without I/O: facts and the time go in, the record of a turn and what may then be released come out.

A turn: `record the facts -> plan -> execute -> settle -> prepare dispatches`, all on the state in memory. The caller commits
the record and only then releases anything. The machine needs no Ray, no SQLite and no clock, so the simulator runs it too.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.coordinator.apply import events_of
from wonder_ray.coordinator.observe import events_of_fact, task_event
from wonder_ray.decisions import Decision, MarkForDispatch, StartChild
from wonder_ray.errors import CommandRefusedError, WonderError
from wonder_ray.fold import Changes, Folding, evolve
from wonder_ray.planning import facts
from wonder_ray.planning.commands import check, is_repeated, reply_to
from wonder_ray.planning.dispatching import TaskManager
from wonder_ray.planning.router import Router, is_open_attempt
from wonder_ray.state import TERMINAL_RUN, Child, RunStatus, Token, TokenStatus
from wonder_ray.storage.records import ContextDelta, TurnRecord
from wonder_ray.values import encode_trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from wonder_ray.coordinator.traces import Tracer
    from wonder_ray.definitions.graph import Graph


_STOPPING: Final = frozenset({ev.TokenCancelled, ev.SubworkflowCancelRequested})
_DISPATCHING: Final = frozenset({RunStatus.RUNNING, RunStatus.WAITING, RunStatus.COMPENSATING})


class Turn(msgspec.Struct, kw_only=True):
    """What one turn came to."""

    record: TurnRecord
    """To be committed before anything below is released."""
    dispatched: list[Token]
    """Tokens whose open attempt is to be sent to an executor."""
    withdrawn: list[tuple[str, int]]
    """(token, attempt) whose task is to be told to stop."""
    refused: list[facts.TaskFact]
    """Late or unknown results, without effect."""
    overdue: list[facts.TaskErrored]
    """Attempts that were given up because their time was up."""
    children: list[Child]
    """Child runs that are to be started, or told to end: each is followed until it has ended."""
    replies: list[dict[str, Any] | WonderError]
    """What is answered to each command of the batch, in its place; an error where it was refused, {} for other facts."""
    ended: bool
    """Whether the run has its terminal event."""


class Machine:
    """One run.

    Example:
        `Machine(graph, new_state(run_id), epoch=1).turn([StartRun(...)], now_us=now, room=lambda node: 100)`
    """

    def __init__(
        self,
        graph: Graph,
        state: Folding,
        *,
        epoch: int,
        tracer: Tracer | None = None,
        lanes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.graph = graph
        self.state = state
        self.epoch = epoch
        self._router = Router(graph)
        self._tasks = TaskManager(graph, lanes)
        self._tracer = tracer
        self._stamp = ev.Stamp(0, 0, 0, epoch)
        self._events: list[tuple[int, bytes]] = []
        self._dispatched: list[Token] = []
        self._withdrawn: list[tuple[str, int]] = []
        self._refused: list[facts.TaskFact] = []
        self._overdue: list[facts.TaskErrored] = []
        self._children: list[str] = []
        self._replies: list[dict[str, Any] | WonderError] = []
        self._executing: Decision | None = None
        state.index.follow_inline(graph.inline)

    def turn(
        self,
        batch: Iterable[facts.Fact],
        *,
        now_us: int,
        room: Callable[[str], int],
    ) -> Turn:
        """Handle a drained mailbox in one turn.

        Args:
            batch: The facts, in order of arrival; each is asked for when the one before has been handled.
            now_us: The turn's time.
            room: How many more tokens of a node's lane may be dispatched now, beside those in flight.

        A turn that raises leaves the state half changed: nothing of it may be committed, and the machine is not to be used again.
        """
        self._stamp = ev.Stamp(0, self.state.run.turn + 1, now_us, self.epoch)
        self.state.now_us = now_us
        if self._tracer is not None:
            self._tracer.begin(self._stamp.turn, now_us, self.epoch)
        try:
            for fact in batch:
                self._replies.append(self._handle(fact))
            self._settle()  # what was loaded, where no fact had it looked at
            self._dispatch(room)
            self._execute(self._router.rest(self.state), "rest")
        except Exception as error:
            if self._tracer is not None:
                self._tracer.fail(self._executing, error)
            raise
        return self._finish()

    def go_on_from(self, state: Folding) -> None:
        """Leave the run as it stands, and go on from another state of the same definition."""
        self.state = state
        self._router.forget()
        state.index.follow_inline(self.graph.inline)

    @property
    def emitted(self) -> Sequence[tuple[int, bytes]]:
        """The events of the turn that is being handled, or that has failed, as (sequence number, line)."""
        return self._events

    # --- planning and executing ----------------------------------------------------------------------------------

    def _handle(self, fact: facts.Fact) -> dict[str, Any] | WonderError:
        """Take one fact of the batch; what its sender is answered."""
        if not isinstance(fact, facts.CommandFact):
            self._take(fact)
            return {}
        if is_repeated(self.state, fact):
            return reply_to(self.state, fact, ())
        try:
            check(self.state, self.graph, fact)
        except CommandRefusedError as refused:
            return refused
        return reply_to(self.state, fact, self._take(fact))

    def _take(self, fact: facts.Fact) -> list[Decision]:
        """Record a fact, and carry out what follows from it; the decisions that it was answered with."""
        if isinstance(fact, facts.Alarm):
            self._give_up_overdue()
        if not self._observe(fact):
            return []
        cause = type(fact).__name__
        if self._tracer is not None:
            self._trace("decision.routing.start", fact=cause)
        decisions = self._router.decide(self.state, fact, now_us=self._stamp.turn_now)
        self._execute(decisions, cause)
        self._settle()
        if isinstance(fact, facts.Alarm):
            for item in self._router.due(self.state):
                self._execute(self._router.expire(self.state, item), cause)
                self._settle()
        return decisions

    def _give_up_overdue(self) -> None:
        for overdue in self._router.overdue(self.state):
            self._overdue.append(overdue)
            self._withdraw(self.state.tokens[overdue.token_id])
            self._take(overdue)

    def _settle(self) -> bool:
        """Execute what follows until nothing does; whether anything did."""
        any_at_all = False
        while decisions := self._router.settle(self.state):
            self._execute(decisions, "settle")
            any_at_all = True
        return any_at_all

    def _dispatch(self, room: Callable[[str], int]) -> None:
        if self.state.run.status not in _DISPATCHING:
            return
        sent: Counter[str] = Counter()
        while True:
            self.state.admit()
            seen = len(self._dispatched)
            decisions = self._tasks.prepare(
                self.state, room=lambda node: room(node) - sent[self._tasks.lane(node)], now_us=self._stamp.turn_now
            )
            if self._tracer is not None and decisions:
                self._trace("dispatch.batch.start", tokens=len(decisions))
            self._execute(decisions, "dispatch")
            sent.update(self._tasks.lane(token.node_id) for token in self._dispatched[seen:])
            if not self._settle() and not decisions:
                return

    def _execute(self, decisions: list[Decision], cause: str) -> None:
        if self._tracer is not None and decisions:
            self._tracer.decisions(cause, decisions)
        for decision in decisions:
            self._executing = decision
            for event in events_of(self.state, decision):
                if type(event) in _STOPPING:
                    self._stop(event)
                self._emit(event)
            if type(decision) is MarkForDispatch:
                self._dispatched.append(self.state.tokens[decision.token_id])
            elif type(decision) is StartChild:
                self._children.append(decision.child_run_id)
        self._executing = None

    def _stop(self, event: ev.WorkflowEvent) -> None:
        """Something that is under way outside is to be told to end."""
        if isinstance(event, ev.TokenCancelled):
            self._withdraw(self.state.tokens[event.token_id])
        else:
            assert isinstance(event, ev.SubworkflowCancelRequested), "of tokens and child runs one is to be stopped"
            self._children.append(event.child_run_id)

    def _withdraw(self, token: Token) -> None:
        if token.status is TokenStatus.DISPATCHED:
            self._withdrawn.append((token.id, token.attempt))

    def _emit(self, event: ev.WorkflowEvent) -> None:
        """One event: its line for the outbox, and its effect on the state."""
        sequence = self.state.run.sequence + 1
        _, turn, turn_now, epoch = self._stamp
        stamp = ev.Stamp(sequence, turn, turn_now, epoch)
        self._events.append((sequence, ev.encode_line(event, stamp)))
        evolve(self.state, event, stamp)
        if self._tracer is not None:
            self._tracer.event(event)

    def _trace(self, event_type: str, **payload: Any) -> None:
        if self._tracer is not None:
            self._tracer.add(event_type, **payload)

    # --- recording facts -----------------------------------------------------------------------------------------

    def _observe(self, fact: facts.Fact) -> bool:
        """Record a fact in events of its own; False when it is to have no effect."""
        if isinstance(fact, facts.TaskFact):
            return self._observe_task(fact)
        events = events_of_fact(self.state, self.graph, fact)
        if events is None:
            return False
        for event in events:
            self._emit(event)
        return True

    def _observe_task(self, fact: facts.TaskFact) -> bool:
        token = self.state.tokens.get(fact.token_id)
        if token is None or not is_open_attempt(token, fact):
            self._refused.append(fact)
            self._trace("dispatch.error", token=fact.token_id, attempt=fact.attempt, reason="no such open attempt")
            return False
        event = task_event(token, fact)
        if event is not None:
            self._emit(event)
        return True

    # --- the record ----------------------------------------------------------------------------------------------

    def _finish(self) -> Turn:
        changes, self.state.changes = self.state.changes, Changes()
        record = TurnRecord(
            run=self.state.run,
            epoch=self.epoch,
            tokens=list(changes.tokens.values()),
            groups=list(changes.groups.values()),
            fanouts=list(changes.fanouts.values()),
            deltas=[
                ContextDelta(scope_id, write.target, write.op, encode_trusted(write.value)) for scope_id, write in changes.writes
            ],
            iterations=[(scope_id, edge_id, count) for (scope_id, edge_id), count in changes.iterations.items()],
            records=[
                (kind, record_id, None if record is None else encode_trusted(record))
                for (kind, record_id), record in changes.records.items()
            ],
            events=self._events,
            traces=self._tracer.take() if self._tracer is not None else [],
        )
        dispatched = [token for token in self._dispatched if token.status is TokenStatus.DISPATCHED]
        turn = Turn(
            record=record,
            dispatched=dispatched,
            withdrawn=self._withdrawn,
            refused=self._refused,
            overdue=self._overdue,
            children=[
                self.state.children[child_id] for child_id in dict.fromkeys(self._children) if child_id in self.state.children
            ],
            replies=self._replies,
            ended=self.state.run.status in TERMINAL_RUN,
        )
        self._children, self._replies = [], []
        self._events, self._dispatched, self._withdrawn, self._refused, self._overdue = [], [], [], [], []
        return turn
