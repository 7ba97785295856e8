"""One run, as a driver sees it and talks to it."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from wonder_ray.client.asking import Asking
from wonder_ray.client.replies import AnswerReply, Reply, SignalReply
from wonder_ray.errors import CommandRefusedError
from wonder_ray.given import as_json
from wonder_ray.planning import facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wonder_ray.client.clients import Client
    from wonder_ray.coordinator.messages import Snapshot
    from wonder_ray.definitions.builder import Workflow
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.events.query import EventRow
    from wonder_ray.fold import Folding
    from wonder_ray.planning.queries import Waiting
    from wonder_ray.resources.records import RunRecord

ReplyT = TypeVar("ReplyT", bound=Reply)
POLL_SECONDS: Final = 5.0  # for one question to a coordinator; then the client looks whether it still lives
FOLLOW_SECONDS: Final = 0.2
EVENTS_PER_CALL: Final = 10_000


class Run:
    """One run.

    Everything that is told to it is durable when the method returns, and is retried until it is. With a `key` of your own a
    repetition, at any later time and by any process, has no further effect and gets the first answer.

    Attributes:
        id: Its id.
        last_snapshot: What its coordinator last told while it was waited for.

    Raises:
        CommandRefusedError: From every method that tells it something: the run cannot do that, or has ended; nothing was
            recorded.
        PayloadError: A value is no JSON.
        ServiceUnavailableError: Its coordinator did not answer for a minute; repeat the call, with the same key.
    """

    def __init__(self, client: Client, record: RunRecord) -> None:
        self.id = record.run_id
        self.last_snapshot: Snapshot | None = None
        self._client = client
        self._services = client._services  # noqa: SLF001 - one package
        self._asking = Asking(self._services, self.id)

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    # --- looking -------------------------------------------------------------------------------------------------

    def record(self) -> RunRecord:
        """What the registry knows of it."""
        found: RunRecord = self._services.call("resources", "get_run", self.id)
        return found

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
            self.last_snapshot = self._asking.once("wait", left, seconds=left) or self.last_snapshot

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
        return record.result()

    def status(self) -> Snapshot | None:
        """How it stands right now, and what it waits for, from its coordinator; None when that does not live."""
        found: Snapshot | None = self._asking.if_alive("status")
        return found

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
        """Its state now, or at the end of the turn that holds event `at`, as plain JSON.

        Keys: `run`, `state`, `output`, `tokens` (live ones), `groups` (open ones), `kept` (signals and answers that nobody has
        consumed), `children` (child runs that have not ended), `undos` (work that can be taken back).
        """
        from wonder_ray.fold import describe

        return describe(self._folded(at))

    def query(self, expression: str) -> Any:
        """The value of a CEL expression over the run's `input`, `state`, `output` and `run`; nothing is changed.

        A live coordinator is asked; without one it is the state as far as the event service knows it.

        Raises:
            ExpressionError: It does not compile, or cannot be evaluated.

        Example:
            >>> run.query("size(state.pages)")  # doctest: +SKIP
            3
        """
        from wonder_ray.planning.queries import evaluate_query

        found = self._asking.if_alive("query", expression)
        return found["value"] if found is not None else evaluate_query(self._folded(), expression)

    def gates(self) -> list[Waiting]:
        """The gates that wait for an answer: node, token, how often asked, assignee, what is shown, since, deadline."""
        from wonder_ray.client.forks import graph_of
        from wonder_ray.planning.queries import gates_of

        found: list[Waiting] | None = self._asking.if_alive("gates")
        return gates_of(self._folded(), graph_of(self._services, self.record())) if found is None else found

    def _folded(self, at: int | None = None) -> Folding:
        from wonder_ray.fold import fold

        return fold(self.id, (row.as_dict() for row in self.events()), at=at)

    # --- telling -------------------------------------------------------------------------------------------------

    def signal(self, name: str, payload: object = None, *, key: str | None = None) -> SignalReply:
        """Send a signal; who has waited longest for it consumes it, else it is kept (where its nodes retain it) or lost.

        Example:
            >>> run.signal("paid", {"id": "p-17"}, key="p-17")["delivered"]  # doctest: +SKIP
            True
        """
        return self._tell(facts.SignalRun(name=name, payload=as_json(payload, "payload"), key=key), SignalReply)

    def answer(self, gate: str, answer: object, *, by: str | None = None, key: str | None = None) -> AnswerReply:
        """Answer a gate; an answer that its schema refuses (`accepted` is false) leaves it open, and it asks again.

        Args:
            gate: The gate's node; where several are open there, the token of one (see `gates`).
            answer: JSON, or a pydantic model.
            by: Who answers; it is in the run's events.
            key: See the class.
        """
        return self._tell(facts.AnswerGate(gate=gate, answer=as_json(answer, "answer"), by=by, key=key), AnswerReply)

    def update(self, changes: Mapping[str, object], *, key: str | None = None) -> Reply:
        """Set parts of the state: target -> value, all of them or (where that breaks the workflow's `state` schema) none.

        Example:
            >>> run.update({"state.limit": 5})  # doctest: +SKIP
        """
        checked = {target: as_json(value, target) for target, value in changes.items()}
        return self._tell(facts.UpdateState(changes=checked, key=key), Reply)

    def pause(self, reason: str = "", *, key: str | None = None) -> Reply:
        """Start nothing new in it; what is under way comes to its end. `resume` lets it go on."""
        return self._tell(facts.PauseRun(reason=reason, key=key), Reply)

    def wake(self) -> None:
        """Make sure that its coordinator lives: an interrupted run goes on, one that is paused stays so."""
        self._asking.activate()

    def resume(self, *, key: str | None = None) -> None:
        """Make sure that its coordinator lives, and let it go on where it is paused; a run that has ended is left alone."""
        if self.record().ended:
            self.wake()  # what is left to be told of its end is told
        else:
            self._asking.until_answered("command", facts.ContinueRun(key=key))

    def cancel(self, reason: str = "", *, compensate: bool = False, key: str | None = None) -> Reply:
        """Stop the run, its child runs included; cancelling a run that has ended, or whose end is decided, does nothing.

        Args:
            reason: Why; it is in the run's events.
            compensate: Whether to take back the work of completed nodes that have an `undo`.
            key: See the class.
        """
        if self.record().ended:
            return {"ok": True, "run_id": self.id}
        return self._tell(facts.CancelRun(reason=reason or "cancelled by its user", compensate=compensate, key=key), Reply)

    def complete_group(self, group: str, *, reason: str = "", key: str | None = None) -> Reply:
        """Let a group's join fire with what there is; the rest of the group is withdrawn.

        Args:
            group: Its name; where several of the name are open, the id of one (see `state`).
            reason: Why; it is in the run's events.
            key: See the class.
        """
        return self._tell(facts.CompleteGroup(group=group, reason=reason, key=key), Reply)

    def close_group(self, group: str, *, key: str | None = None) -> Reply:
        """Let an `open` group take no more members: its join fires when those that it has have settled."""
        return self._tell(facts.SealGroup(group=group, key=key), Reply)

    def add_members(self, group: str, items: Sequence[object], *, key: str | None = None) -> Reply:
        """Add members to an `open` group: one per item, which is the `item` of its branch."""
        checked = [as_json(item, f"item {number}") for number, item in enumerate(items)]
        return self._tell(facts.AddMembers(group=group, items=checked, key=key), Reply)

    def _tell(self, fact: facts.CommandFact, _kind: type[ReplyT]) -> ReplyT:
        """The answer to a command, which is repeated until there is one: with the same key, so that it counts once."""
        if fact.key is None:
            record = self.record()
            if record.ended:
                msg = f"run {self.id}: {type(fact).__name__} was refused: it has ended ({record.status})"
                raise CommandRefusedError(msg)
            fact = msgspec.structs.replace(fact, key=secrets.token_hex(16))
        reply: ReplyT = self._asking.until_answered("command", fact)
        return reply

    # --- beginning again -----------------------------------------------------------------------------------------

    def fork(
        self,
        at: int | None = None,
        set: Mapping[str, object] | None = None,  # noqa: A002 - the word users know it by
        *,
        flow: Workflow | WorkflowDefinition | None = None,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a new run from this one's state at the end of the turn that holds event `at`.

        What had ended then is not done again; tasks and child runs that were under way are made anew, with all their attempts;
        gates, signals and timers go on waiting, with the time that they had left.

        Args:
            at: By default the last event before this run's end was decided; of a run that goes on, the last there is.
            set: Target -> value: changes of the state (or `output`) that it begins with.
            flow: Another version of the workflow, such as one whose code was mended, instead of this run's own.
            key: Your own name for the new run: a repetition finds it.
            labels: By default this run's.

        Raises:
            WonderError: There is no such event (yet), or no fork can begin there; the message says where one can.
            DefinitionError: `flow` lacks a node, group or join that the state needs.
            KeyConflictError: The key belongs to another run.

        Example:
            >>> run.fork(at=120, set={"state.limit": 5}).result()  # doctest: +SKIP
        """
        from wonder_ray.client.forks import Wish, fork

        moving = at is None
        return fork(self, lambda found: found.point(at), Wish(set or {}, flow, key, labels, moving=moving))

    def restart_from(
        self,
        node: str,
        *,
        set: Mapping[str, object] | None = None,  # noqa: A002 - as for `fork`
        flow: Workflow | WorkflowDefinition | None = None,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a new run from this one's state in the turn in which a node was last begun; see `fork`.

        Raises:
            WonderError: The node was never begun; or it began and ended within one turn, as nodes without a task may (the
                message says what to restart from instead).

        Example:
            >>> run.restart_from("train", flow=mended).result()  # doctest: +SKIP
        """
        from wonder_ray.client.forks import Wish, fork

        return fork(self, lambda found: found.start_of(node), Wish(set or {}, flow, key, labels, moving=True))
