"""The coordinator of one run, without Ray: mailbox in, one turn and one commit for all that has come, and only then the rest.

`handle` is one turn: drain -> plan -> execute -> commit -> release (stop and send tasks, answer callers, ship events, report).
It is called by one thread only. What goes out can be derived again from what is committed, and is, when a run is reopened.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from wonder_ray.coordinator.dispatcher import Dispatcher, Finished, Task
from wonder_ray.coordinator.messages import Asked, Command, Message, Query, Snapshot, Wake
from wonder_ray.coordinator.shipper import BACKLOG_ROWS, Shipped, Shipper
from wonder_ray.errors import WonderError
from wonder_ray.planning import facts
from wonder_ray.planning.queries import waiting_of
from wonder_ray.state import TERMINAL_RUN, ErrorRecord
from wonder_ray.storage.records import TurnRecord
from wonder_ray.values import decode, encode_trusted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wonder_ray.clock import Clock
    from wonder_ray.coordinator.machine import Machine, Turn
    from wonder_ray.coordinator.ports import Children, EventSink, Log, Registry
    from wonder_ray.coordinator.traces import Tracer
    from wonder_ray.executor.protocol import ErrorInfo, Outcome
    from wonder_ray.state import Child
    from wonder_ray.storage.store import RunStore

SLOW_COMMIT_MS: Final = 250.0
NAMED_FACTS: Final = 20
"""Of the facts of a turn that failed, so many are named in the log."""
SNAPSHOT_EVERY_US: Final = 100_000
WAITING_SHOWN: Final = 20
"""Of what a run waits for, so much is in its snapshot."""
REPORT_WITHIN_US: Final = 10_000_000
"""How long after a run's end the registry is told at the latest, though its last events are not acknowledged."""


class Coordinator:
    """One run and its file."""

    def __init__(  # noqa: PLR0913 - the ports of a coordinator
        self,
        *,
        machine: Machine,
        store: RunStore,
        dispatcher: Dispatcher,
        shippers: Sequence[Shipper],
        sink: EventSink,
        registry: Registry,
        children: Children,
        log: Log,
        clock: Clock,
        keys: dict[str, bytes],
        tracer: Tracer | None = None,
    ) -> None:
        self._machine = machine
        self._store = store
        self._dispatcher = dispatcher
        self._shippers = {shipper.stream: shipper for shipper in shippers}
        self.run = self._shippers["events"].run
        self._sink = sink
        self._registry = registry
        self._children = children
        self._log = log
        self._clock = clock
        self._keys = keys
        self._tracer = tracer
        self._flushed = False
        self._report_by_us: int | None = None
        """When the end of the run is told at the latest; None before the end."""
        self._told_end = False
        self._held_back = False
        self._pids: set[int] = set()
        self.snapshot = self._take_snapshot()
        self._snapshot_us = 0
        self._snapshot_is_old = False
        self._reported: str | None = None
        """The status that the registry was told last."""

    # --- the turn ------------------------------------------------------------------------------------------------

    def handle(self, messages: Sequence[Message]) -> None:
        """One turn for all messages that have come."""
        now_us = self._clock.now_us()
        batch: list[facts.Fact] = []
        asked: list[Asked] = []
        queries: list[Query] = []
        for message in messages:
            match message:
                case Finished():
                    batch.extend(self._facts_of(message))
                case Command():
                    self._admit(message, batch, asked)
                case Query():
                    queries.append(message)
                case Shipped():
                    self._shippers[message.stream].answered(message, now_us)
                case facts.ChildStarted() | facts.ChildEnded():
                    batch.append(message)
                case Wake():
                    pass
        if self._is_due(now_us):
            batch.append(facts.Alarm())
        # A task that is off the account has made room, also when nothing it did is wanted any more.
        freed = any(isinstance(message, Finished) for message in messages)
        if batch or freed or self._may_go_on():
            self._turn(batch, asked, now_us)
        for query in queries:
            query.reply(self._answer(query))
        self._after(now_us, changed=bool(batch))

    def _turn(self, batch: Sequence[facts.Fact], asked: Sequence[Asked], now_us: int) -> None:
        try:
            turn = self._machine.turn(batch, now_us=now_us, room=self._room)
        except Exception as error:
            self._turn_failed(batch, error)
            raise
        for each in asked:
            reply = turn.replies[each.position]
            if each.key is not None and not isinstance(reply, Exception):
                turn.record.keys.append((each.key, encode_trusted(reply)))
        if turn.record.events or turn.record.traces or turn.record.keys:
            self._commit(turn)
        self._keys.update(turn.record.keys)
        self._release(turn)
        for each in asked:
            for caller in each.callers:
                caller(turn.replies[each.position])

    def _turn_failed(self, batch: Sequence[facts.Fact], error: Exception) -> None:
        """The process ends after this: nothing of the turn is stored, and what is said here is all that is left of it."""
        what = "alarm_failed" if any(isinstance(fact, facts.Alarm) for fact in batch) else "turn_failed"
        kinds = [type(fact).__name__ for fact in batch[:NAMED_FACTS]]
        self._log.error(what, f"the turn was undone: {type(error).__name__}: {error}", error=error, facts=kinds)
        if self._tracer is None:
            return
        with suppress(WonderError):  # the failure that matters is on its way already
            stored = self._store.load()
            if stored is not None:
                self._store.commit(TurnRecord(run=stored.run, epoch=self._machine.epoch, traces=self._tracer.take()))

    def _commit(self, turn: Turn) -> None:
        began = time.perf_counter()
        try:
            self._store.commit(turn.record)
        except WonderError as error:
            self._log.error("storage_failed", f"turn {turn.record.run.turn} was not stored: {error}", error=error)
            raise
        duration_ms = (time.perf_counter() - began) * 1000
        rows = len(turn.record.events)
        if self._tracer is not None:
            tokens = len(turn.record.tokens)
            self._tracer.add("sql.query", query="commit_turn", duration_ms=duration_ms, events=rows, tokens=tokens)
        if duration_ms > SLOW_COMMIT_MS:
            self._log.warning(
                "db_query_slow",
                f"turn {turn.record.run.turn}: its commit of {rows} events took {duration_ms:.0f} ms",
                query="commit_turn",
                duration_ms=duration_ms,
            )

    def _release(self, turn: Turn) -> None:
        """What the commit has justified."""
        if turn.record.events:
            self._shippers["events"].committed(turn.record.events[-1][0])
        if turn.record.traces and "trace" in self._shippers:
            self._shippers["trace"].committed(turn.record.traces[-1][0])
        self._dispatcher.withdraw(turn.withdrawn)
        self._dispatcher.release(turn.dispatched)
        for child in turn.children:
            self._follow(child)
        for late in turn.overdue:
            self._log.error(
                "executor_rpc_timeout",
                f"attempt {late.attempt} of token {late.token_id} was given up: {late.error.message}",
                node_id=late.error.node_id,
                token_id=late.token_id,
                attempt=late.attempt,
            )
        for fact in turn.refused:
            self._log.info(
                "late_result_refused",
                f"attempt {fact.attempt} of token {fact.token_id} (epoch {fact.epoch}) is not the one that is open",
                token_id=fact.token_id,
                attempt=fact.attempt,
            )

    def _follow(self, child: Child) -> None:
        run = self._machine.state.run
        compensate = run.ending is not None and run.ending.compensate
        self._children.follow(child, depth=run.depth + 1, compensate=compensate)

    def follow_children(self) -> None:
        """See to the child runs that an earlier coordinator has left: once, after the first turn."""
        for child in self._machine.state.children.values():
            self._follow(child)

    def _after(self, now_us: int, *, changed: bool) -> None:
        for shipper in self._shippers.values():
            shipper.ship(now_us, urgent=self.ended)
        if self.ended and not self._flushed:
            self._end(now_us)
        elif self._reported not in {None, self._machine.state.run.status} and not self.ended:
            self.report()
        self._snapshot_is_old = self._snapshot_is_old or changed
        if self.ended or (self._snapshot_is_old and not 0 <= now_us - self._snapshot_us < SNAPSHOT_EVERY_US):
            self._snapshot_us, self._snapshot_is_old = now_us, False
            self.snapshot = self._take_snapshot()

    def _end(self, now_us: int) -> None:
        """Who hears of the end finds all its events in the event service, unless that is away for long."""
        shipped = not any(shipper.backlog for shipper in self._shippers.values())
        if self._report_by_us is None:
            self._report_by_us = now_us + REPORT_WITHIN_US
        if not self._told_end and (shipped or now_us >= self._report_by_us):
            self._told_end = True
            self.report()
        if shipped:
            self._flushed = True
            self._sink.flush()

    # --- what comes in -------------------------------------------------------------------------------------------

    def _admit(self, command: Command, batch: list[facts.Fact], asked: list[Asked]) -> None:
        """Put a command into the batch, unless its key was handled before, or stands in the batch already."""
        if command.key is not None:
            known = self._keys.get(command.key)
            if known is not None:
                command.reply(decode(known))
                return
            same = next((each for each in asked if each.key == command.key), None)
            if same is not None:
                same.callers.append(command.reply)
                return
        asked.append(Asked(len(batch), command.key, [command.reply]))
        batch.append(command.fact)

    def _answer(self, query: Query) -> Any:
        """The answer, as the last commit left the state."""
        try:
            return query.ask(self._machine.state, self._machine.graph)
        except WonderError as error:
            return error

    def _facts_of(self, message: Finished) -> list[facts.Fact]:
        task, shared = self._dispatcher.finished(message)
        if message.outcomes is not None:
            self._pids.update(outcome.pid for outcome in message.outcomes)
            return [self._fact_of(outcome) for outcome in message.outcomes]
        return self._lost(task, message.loss, shared=shared) if message.loss is not None else []

    def _fact_of(self, outcome: Outcome) -> facts.Fact:
        if outcome.error is None:
            return facts.TaskSucceeded(
                token_id=outcome.token_id,
                attempt=outcome.attempt,
                epoch=outcome.epoch,
                result=None if outcome.result is None else decode(outcome.result),
                duration_ms=outcome.duration_ms,
                tokens=outcome.tokens,
                cost_usd=outcome.cost_usd,
            )
        return facts.TaskErrored(
            token_id=outcome.token_id,
            attempt=outcome.attempt,
            epoch=outcome.epoch,
            error=self._record(outcome.error, outcome.token_id),
            duration_ms=outcome.duration_ms,
            tokens=outcome.tokens,
            cost_usd=outcome.cost_usd,
        )

    def _record(self, error: ErrorInfo, token_id: str) -> ErrorRecord:
        token = self._machine.state.tokens.get(token_id)
        return ErrorRecord(error.type, error.message, error.retryable, error.kind, None if token is None else token.node_id)

    def _lost(self, task: Task, loss: ErrorInfo, *, shared: bool) -> list[facts.Fact]:
        """A task without outcomes; of the attempts still wanted, nobody knows how far they got."""
        if task.tokens:
            self._log.error(
                "executor_rpc_failed",
                f"a task with {task.size} calls was lost: {loss.type}: {loss.message}",
                kind=loss.kind,
                calls=task.size,
            )
        epoch = self._machine.epoch
        found: list[facts.Fact] = []
        for token_id, attempt in task.tokens.items():
            error = self._record(loss, token_id)
            if loss.kind == "code":
                found.append(facts.TaskErrored(token_id=token_id, attempt=attempt, epoch=epoch, error=error))
            else:
                found.append(facts.TaskLost(token_id=token_id, attempt=attempt, epoch=epoch, error=error, batched=shared))
        return found

    def _room(self, node_id: str) -> int:
        """No dispatch while the event pipeline is far behind: the outbox grows on disk, and admission slows."""
        if self._backlog() > BACKLOG_ROWS:
            self._held_back = True
            return 0
        return self._dispatcher.room(node_id)

    def _backlog(self) -> int:
        return max(shipper.backlog for shipper in self._shippers.values())

    def _may_go_on(self) -> bool:
        """Whether dispatch was held back, and the event pipeline has caught up since: no other message would wake it."""
        if not self._held_back or self._backlog() > BACKLOG_ROWS // 2:
            return False
        self._held_back = False
        return True

    # --- time ----------------------------------------------------------------------------------------------------

    def _is_due(self, now_us: int) -> bool:
        due_us = self._machine.state.next_due_us()
        return due_us is not None and due_us <= now_us and not self.ended

    def next_wake_us(self) -> int | None:
        """When `handle` is to be called although nothing has come."""
        times = [shipper.due_us for shipper in self._shippers.values() if shipper.due_us is not None]
        if self._report_by_us is not None and not self._told_end:
            times.append(self._report_by_us)
        if self._snapshot_is_old:
            times.append(self._snapshot_us + SNAPSHOT_EVERY_US)
        due_us = None if self.ended else self._machine.state.next_due_us()
        if due_us is not None:
            times.append(due_us)
        return min(times, default=None)

    # --- telling -------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the run has its terminal event."""
        return self._machine.state.run.status in TERMINAL_RUN

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: the run has ended and its events are acknowledged."""
        return self.ended and self._flushed

    def report(self) -> None:
        """Tell the registry how the run stands."""
        run = self._machine.state.run
        self._reported = run.status
        self._registry.report(
            {
                "status": run.status,
                "started_us": run.started_us,
                "ended_us": run.ended_us,
                "output": None if run.output is None else encode_trusted(run.output),
                "error": None if run.error is None else encode_trusted(run.error.as_json()),
                "tokens": len(self._machine.state.tokens),
                "events": run.sequence,
                "duration_ms": _duration_ms(run.started_us, run.ended_us),
            }
        )

    def _take_snapshot(self) -> Snapshot:
        state = self._machine.state
        run = state.run
        nodes: dict[str, dict[str, int]] = {}
        for (node_id, status), count in state.index.counts.items():
            if count:
                nodes.setdefault(node_id, {})[str(status)] = count
        return Snapshot(
            run_id=run.run_id,
            status=str(run.status),
            epoch=self._machine.epoch,
            turn=run.turn,
            events=run.sequence,
            tokens=len(state.tokens),
            nodes=nodes,
            in_flight=self._dispatcher.in_flight,
            started_us=run.started_us,
            ended_us=run.ended_us,
            output=run.output if self.ended else None,
            error=None if run.error is None else run.error.as_json(),
            shipped=self._shippers["events"].mark,
            ray_tasks=self._dispatcher.submitted,
            executor_pids=tuple(sorted(self._pids)),
            waiting=tuple(waiting_of(state, self._machine.graph, WAITING_SHOWN)),
            undos=len(state.undos),
        )


def _duration_ms(started_us: int | None, ended_us: int | None) -> float | None:
    return None if started_us is None or ended_us is None else (ended_us - started_us) / 1000
