"""The auditor of one run: reads its events turn by turn, knows the rules (R1 to R11), and not the code that keeps them.

Its picture of the run is built from the event rows alone. What the rules leave open (which of two results came first) it takes
from the rows; all that follows from it, it derives anew and compares. At the end of a turn nothing may be left undone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.audit.ending import NOTHING
from tests.simulation.audit.model import GOING, HELD, RUN_ENDED, WAITING, WAITS, Model, MToken
from tests.simulation.audit.reader import CANCELS, Row
from tests.simulation.audit.reading import Reading, UndefinedError
from tests.simulation.audit.waits import Waits
from tests.simulation.violations import Violation, require

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.simulation.executors import Ledger
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.run_state import RunState

    Told = tuple[str, Any]
    """How a run has ended: its status and its output."""

DISPATCHING: Final = frozenset({"task.dispatched", "node_failed", "token.failed", "mutex.requested", "mutex.acquired"})


class Auditor(Waits):
    """Judges one run."""

    def __init__(
        self,
        run_id: str,
        definition: WorkflowDefinition,
        value: Any,
        ledger: Ledger,
        decided: Counter[str],
        ends: Callable[[str], Told | None],
    ) -> None:
        super().__init__(Model(run_id, Reading(definition)), decided, ledger)
        self._input = value
        self._ends = ends
        self.ended: Told | None = None
        self._readers = self._by_kind()

    @property
    def status(self) -> str:
        """How the run stands."""
        return self.model.status

    def turn(self, rows: list[Row], state: RunState) -> None:
        """Judge a turn: its rows, and the state that it left."""
        require(not rows or self.model.status not in RUN_ENDED, "I10", f"after the end came {rows}")
        if rows:
            self.now_us = rows[0]["turn_now"]
        self.load(rows)
        try:
            while self.rows:
                self._read_next()
            self.route_all()
        except UndefinedError as trouble:
            raise Violation("R9", f"an expression has no value here: {trouble}; {self.peek()}") from trouble
        require(not self.rows, "turn", f"not understood: {list(self.rows)[:3]}")
        self._check_settled()
        self._compare(state)
        if self.model.status in RUN_ENDED and rows:
            self.ended = self.model.status, rows[-1].get("metadata")

    def end(self) -> None:
        """Judge a run that is over (I10)."""
        require(self.model.status in RUN_ENDED, "I10", f"the run has no terminal event: it is {self.model.status}")

    # --- reading -------------------------------------------------------------------------------------------------

    def _by_kind(self) -> dict[str, Callable[[], None]]:
        """Which procedure reads what begins with a row of a kind."""
        return {
            "workflow.started": self._read_start,
            "run.resumed": self._read_resumed,
            "workflow.cancel_requested": self._read_cancel,
            "workflow.paused": self.read_pause,
            "workflow.resumed": self.read_continue,
            "workflow.waiting": self._read_rest,
            "workflow.running": self._read_rest,
            "workflow.completed": self._read_completed,
            "workflow.failed": self._read_late_failure,
            "workflow.ending": self._read_late_failure,
            "signal.received": self.read_signal,
            "gate.answer_received": self.read_answer,
            "update.received": self.read_update,
            "group.completed_early": self.read_completed_early,
            "group.sealed": lambda: self._noted("group.sealed"),
            "group.members_added": self.read_added,
            "subworkflow.started": self.read_child_started,
            "subworkflow.completed": self.read_child_ended,
            "subworkflow.failed": self.read_child_ended,
            "timer.fired": self.read_fired,
            "gate.escalated": self.read_escalation,
            "task.completed": self.read_success,
            "task.failed": self.read_failed_attempt,
            "token.requeued": self.read_requeue,
            "task.dispatched": self.read_dispatch,
            "gate.opened": self.read_gate_opened,
            "signal.awaited": self.read_awaited,
            "timer.set": self.read_timer,
            "subworkflow.requested": self.read_child_requested,
            "mutex.requested": self.read_request,
            "mutex.acquired": self.read_acquired,
            "node_failed": self.read_broken_node,
            "context.updated": self.read_compute,
            "context.output_applied": self._read_terminating,
            "node_completed": self.read_compute,
            "group.closed": lambda: self.read_closing(self.model.groups[self.rows[0]["group_id"]]),
            "group.failed": lambda: self.read_unmet(self.model.groups[self.rows[0]["group_id"]], self.rows[0]["error"]),
            "branches.merged": lambda: self._fire(self.rows[0]["join_id"]),
            "fan_in.completed": lambda: self._fire(self.rows[0]["join_id"]),
            "fan_in.absorbed": lambda: self.read_absorbed(self.rows[0]["join_id"]),
            "fan_in.reset": lambda: self.read_reset(self.rows[0]["join_id"]),
        }

    def _noted(self, kind: str) -> None:
        self.take("turn", kind)

    def _read_next(self) -> None:
        """Read what belongs to the next row. What has ended is routed first, but for a batch that is being dispatched."""
        kind = self.next_kind()
        if kind not in DISPATCHING or (kind == "node_failed" and not self._is_dispatch_failure()):
            self.route_all()
            if not self.rows:
                return
            kind = self.next_kind()
        if kind in CANCELS:
            self._read_cancelled()
        elif kind in self._readers:
            self._readers[kind]()
        else:
            self.broken("turn", "nothing calls for this event", self.peek())

    def _is_dispatch_failure(self) -> bool:
        """Whether the next failure is of a token that was about to be dispatched."""
        token = self.model.tokens[self.rows[0]["token_id"]]
        return token.status == "pending" and not self.reading.is_inline(token.node)

    def _read_start(self) -> None:
        row = self.take("turn", "workflow.started", input=self._input)
        timeout_s = self.reading.definition.timeout_s
        deadline_us = None if timeout_s is None else row["turn_now"] + round(timeout_s * 1_000_000)
        require(row.get("deadline_us") == deadline_us, "turn", f"the deadline must be {deadline_us}: {row}")
        for node in self.reading.start:
            self.take("R1", "token.created", node_id=node, path_id="root", parent_id=None, group_id=None, scope_id="")

    def _read_resumed(self) -> None:
        self.take("turn", "run.resumed")
        void = {token.id for token in self.model.live() if token.status == "dispatched"}
        while void:
            row = self.take("I7", "token.requeued", solo=False)
            require(row["token_id"] in void, "I7", f"{row} was not dispatched by an earlier coordinator")
            void.discard(row["token_id"])

    def _read_terminating(self) -> None:
        """A terminate node has written its output."""
        token = self.model.tokens[self.rows[0]["token_id"]]
        require(self.reading.kind(token.node) == "terminate", "turn", f"{token} writes, and nothing calls for it")
        self.check_may_start(token)
        self.read_result(token)

    # --- joins ---------------------------------------------------------------------------------------------------

    def _fire(self, join_id: str) -> None:
        if join_id in self.model.groups:
            self.read_firing(self.model.groups[join_id])
        else:
            self.read_incoming_firing(join_id)

    def _read_cancelled(self) -> None:
        """Something is cancelled before it is said why: what comes after the cancels tells."""
        why = self.after_cancels() or {"event_type": "nothing"}
        kind = why["event_type"]
        given_up = self._given_up()
        if self._is_late_child():
            self.read_late_child()
        elif given_up is not None and self.gives_up(given_up):
            self.read_given_up(given_up)
        elif kind in {"fan_in.completed", "branches.merged"}:
            self._fire(why["join_id"])
        elif kind == "workflow.timed_out" or why.get("ending", {}).get("status") == "timed_out":
            self._read_timed_out()
        elif given_up is not None and self.times_out(given_up):
            self.read_given_up(given_up, timed_out=True)
        elif kind == "group.failed":
            self.read_unmet(self.model.groups[why["group_id"]], why["error"])
        elif kind == "group.closed":
            self.read_closing(self.model.groups[why["group_id"]])
        elif self._is_deadlock():
            self.read_ending("failed", error="Deadlock", compensate=True)
        else:
            self.broken("R11", f"this is cancelled, and {kind} does not call for it", self.peek())

    def _is_late_child(self) -> bool:
        """Whether a child run is told to end while its token goes on, or fails."""
        after = self.peek(1)
        is_told = self.next_kind() == "subworkflow.cancel_requested"
        return is_told and (after is None or after["event_type"] != "token.cancelled")

    def _given_up(self) -> str | None:
        """The join over `incoming` at which the first cancelled token waits."""
        token = self.model.tokens.get(self.rows[0].get("token_id", ""))
        if token is None or token.status != WAITING or token.waits_at in self.model.groups:
            return None
        return token.waits_at

    def _is_deadlock(self) -> bool:
        """Whether tokens wait for locks that nobody will release: only there can a run be stuck (R4)."""
        return self.may_be_stuck({}) and any(token.wanted for token in self.model.live())

    # --- the end -------------------------------------------------------------------------------------------------

    def _read_cancel(self) -> None:
        row = self.take("turn", "workflow.cancel_requested")
        self.read_ending("cancelled", reason=row["reason"], compensate=row.get("compensate", False))

    def _read_timed_out(self) -> None:
        deadline_us = self.model.deadline_us
        require(deadline_us is not None and deadline_us <= self.now_us, "turn", f"the run has time until {deadline_us}")
        self.read_ending("timed_out", error="RunTimeout", compensate=True)

    def _read_completed(self) -> None:
        live = list(self.model.live())
        require(not live, "I10", f"the run completes, and {live} is live")
        output = self.output()
        require(output is not NOTHING, "turn", "the run's output has no value, and it completes")
        self.read_ending("completed", output=output, compensate=False)

    def _read_late_failure(self) -> None:
        """The run fails with nothing live in it: its output has no value. (Waiting for what cannot come is a mistake: R4.)"""
        live = list(self.model.live())
        require(self.output() is NOTHING and not live, "R4", f"nothing calls for this end: {self.rows[0]}")
        self.read_ending("failed", error="ExpressionError", compensate=True)

    def _read_rest(self) -> None:
        """The run has begun, or ceased, to wait for the world."""
        idle, kind = self._is_idle_run(), self.next_kind()
        require(
            self.model.status == ("running" if idle else "waiting"), "turn", f"the run is {self.model.status}: {self.rows[0]}"
        )
        require((kind == "workflow.waiting") == idle, "turn", f"whether nothing is under way: {idle}; {self.rows[0]}")
        self.take("turn", kind)

    def _is_idle_run(self) -> bool:
        """Whether nothing is under way and nothing can be started."""
        busy = {"dispatched", "waiting_for_retry"}
        return not any(t.status in busy or (t.status == "pending" and not self._is_held_back(t)) for t in self.model.live())

    def _is_held_back(self, token: MToken) -> bool:
        """Whether a pending token waits for a guard, for locks, or for its branch to be let in."""
        try:
            if not self.guard_holds(token):
                return True
        except UndefinedError:
            return False
        fanout = self.model.fanouts.get(token.fanout or "")
        is_first = fanout is not None and (token.parent, token.transition) == (fanout.parent, fanout.transition)
        limited = is_first and fanout is not None and fanout.limit is not None
        return bool(token.wanted) or (limited and token.attempt == 0)

    # --- the end of a turn ---------------------------------------------------------------------------------------

    def _check_settled(self) -> None:
        """Nothing that must have happened is left undone."""
        model = self.model
        live = list(model.live())
        if model.status in RUN_ENDED:
            require(not live, "I10", f"the run has ended, and {live} is live")
            held = [group for group in model.groups.values() if group.status in HELD]
            require(not held, "I10", f"the run has ended, and {held} is open")
            require(not model.children, "I10", f"the run has ended, and {model.children} have not")
            return
        if model.status not in GOING:
            require(live or model.children or model.status == "queued", "R11", "the run is to end, and nothing keeps it")
            return
        is_open = any(group.is_open and group.status == "open" for group in model.groups.values())
        is_open = is_open or bool(model.children)
        require(live or is_open, "I10", "nothing is live, and the run has not ended")
        require(is_open or any(t.status != WAITING for t in live), "R4", f"everything waits for what cannot come: {live}")
        self.check_groups_settled()
        self.check_incoming_settled()
        for token in live:
            self._check_started(token)
        if model.status != "paused":
            require((model.status == "waiting") == self._is_idle_run(), "turn", f"the run is {model.status}, with {live}")

    def _check_started(self, token: MToken) -> None:
        """What may start without a task has started; and what waits still may."""
        if token.status in WAITS:
            try:
                require(self.guard_holds(token), "guards", f"the guard of {token} holds no longer, and it waits")
            except UndefinedError:
                require(False, "guards", f"the guard of {token} has no value, and it waits")
        is_ready = token.status == "pending" and self.reading.is_inline(token.node) and self.model.status != "paused"
        require(not is_ready or self._is_held_back(token), "turn", f"{token} may start, and has not")

    def _compare(self, state: RunState) -> None:
        """The stored state is what the auditor has read into the events (I4)."""
        model = self.model
        require(model.status == str(state.run.status), "I4", f"the run is {state.run.status}, and must be {model.status}")
        mine = {
            t.id: (t.status, t.attempt, t.node, t.path, t.scope, t.group, t.due_us, t.holds, t.wanted, t.race)
            for t in model.tokens.values()
        }
        theirs = {
            t.id: (
                str(t.status), t.attempt, t.node_id, t.path_id, t.scope_id, t.group_id, t.due_us, t.holds, t.wanted, t.race_id
            )
            for t in state.tokens.values()
        }  # fmt: skip
        for token_id in {**mine, **theirs}:
            found, stored = mine.get(token_id), theirs.get(token_id)
            require(found == stored, "I4", f"token {token_id}: {found}, stored {stored}")
        for group in model.groups.values():
            record = state.groups[group.id]
            require(str(record.status) == group.status, "I4", f"{group}: stored is {record}")
            require(record.size == group.size, "R1", f"{group}: its size is {group.size}, and stored is {record}")
            require(record.failures == group.failures, "R10", f"{group}: stored is {record}")
        require(len(state.groups) == len(model.groups), "I4", f"there are {len(model.groups)} groups, stored {len(state.groups)}")
        for scope in {**model.context, **state.contexts}:
            require(
                model.view(scope) == state.view(scope), "R9", f"scope {scope!r} sees {model.view(scope)}: {state.view(scope)}"
            )
        records = [*model.kept, *model.children, *model.undos]
        kept = [*state.kept, *state.children, *state.undos]
        require(records == kept, "I4", f"there are {records}, and stored is {kept}")

    def check_child_has_ended(self, child_id: str, row: Row) -> None:
        """What is told of a child is what it came to (I10)."""
        told = self._ends(child_id)
        require(told is not None, "I10", f"a child run is said to have ended, and has not: {row}")
        if told is not None and row["event_type"] == "subworkflow.completed":
            output = msgspec.json.decode(told[1])["output"] if told[1] else None
            require((told[0], output) == ("completed", row.get("result")), "I7", f"a child has ended {told}: {row}")
        elif told is not None:
            require(told[0] == row["status"], "I7", f"a child has ended {told}: {row}")
