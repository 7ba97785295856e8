"""The auditor of one run: reads its events turn by turn, knows the rules (R1 to R11), and not the code that keeps them.

Its picture of the run is built from the event rows alone. What the rules leave open (which of two results came first) it takes
from the rows; all that follows from it, it derives anew and compares. At the end of a turn nothing may be left undone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.simulation.audit.attempts import Attempts
from tests.simulation.audit.model import HELD, RUN_ENDED, WAITING, Model
from tests.simulation.audit.reader import CANCELS, Row
from tests.simulation.audit.reading import Reading, UndefinedError
from tests.simulation.violations import require

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.simulation.executors import Ledger
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.run_state import RunState

DISPATCHING: Final = frozenset({"task.dispatched", "node_failed", "token.failed"})


class Auditor(Attempts):
    """Judges one run."""

    def __init__(self, run_id: str, definition: WorkflowDefinition, value: Any, ledger: Ledger, decided: Counter[str]) -> None:
        super().__init__(Model(run_id, Reading(definition)), decided, ledger)
        self._input = value

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
        while self.rows:
            self._read_next()
        self.route_all()
        require(not self.rows, "turn", f"not understood: {list(self.rows)[:3]}")
        self._check_settled()
        self._compare(state)

    def end(self) -> None:
        """Judge a run that is over (I10)."""
        require(self.model.status in RUN_ENDED, "I10", f"the run has no terminal event: it is {self.model.status}")

    # --- reading -------------------------------------------------------------------------------------------------

    def _read_next(self) -> None:
        """Read what belongs to the next row. What has ended is routed first, but for a batch that is being dispatched."""
        kind = self.next_kind()
        if kind not in DISPATCHING:
            self.route_all()
            if not self.rows:
                return
            kind = self.next_kind()
        readers: dict[str, Callable[[], None]] = {
            "workflow.started": self._read_start,
            "run.resumed": self._read_resumed,
            "workflow.cancel_requested": self._read_cancel,
            "task.completed": self._read_success,
            "task.failed": self._read_failed_attempt,
            "token.requeued": self._read_requeue,
            "task.dispatched": self._read_dispatch,
            "node_failed": self._read_broken_node,
            "context.updated": self._read_compute,
            "node_completed": self._read_compute,
            "group.closed": lambda: self.read_closing(self.model.groups[self.rows[0]["group_id"]]),
            "branches.merged": self._read_firing,
            "fan_in.completed": self._read_firing,
            "fan_in.absorbed": lambda: self.read_absorbed(self.rows[0]["join_id"]),
            "fan_in.reset": lambda: self.read_reset(self.rows[0]["join_id"]),
            "group.failed": self._read_unmet,
            "workflow.completed": self._read_completed,
            "workflow.failed": self._read_late_failure,
        }
        if kind in CANCELS:
            self._read_cancelled()
        elif kind in readers:
            if kind in DISPATCHING and kind != "task.dispatched" and self.to_route and not self._is_dispatch_failure():
                self.route_all()
                return
            readers[kind]()
        else:
            self.broken("turn", "nothing calls for this event", self.peek())

    def _is_dispatch_failure(self) -> bool:
        """Whether the next failure is of a token that was about to be dispatched."""
        token = self.model.tokens[self.rows[0]["token_id"]]
        return token.status == "pending" and self.reading.nodes[token.node].kind != "compute"

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

    def _read_cancel(self) -> None:
        row = self.take("turn", "workflow.cancel_requested")
        self.take_cancels("R11", lambda _token: True, lambda _group: True)
        self.take("R11", "workflow.cancelled", reason=row["reason"])

    # --- joins ---------------------------------------------------------------------------------------------------

    def _read_firing(self) -> None:
        self._fire(self.rows[0]["join_id"])

    def _fire(self, join_id: str) -> None:
        if join_id in self.model.groups:
            self.read_firing(self.model.groups[join_id])
        else:
            self.read_incoming_firing(join_id)

    def _read_unmet(self) -> None:
        row = self.rows[0]
        self.read_unmet(self.model.groups[row["group_id"]], row["error"])

    def _read_cancelled(self) -> None:
        """Something is cancelled before it is said why: what comes after the cancels tells."""
        why = self.after_cancels() or {"event_type": "nothing"}
        kind = why["event_type"]
        given_up = self._given_up()
        if given_up is not None and self.gives_up(given_up):
            self.read_given_up(given_up)
        elif kind in {"fan_in.completed", "branches.merged"}:
            self._fire(why["join_id"])
        elif kind == "workflow.timed_out":
            self._read_timed_out()
        elif kind == "group.failed":
            self.read_unmet(self.model.groups[why["group_id"]], why["error"])
        else:
            self.broken("R11", f"this is cancelled, and {kind} does not call for it", self.peek())

    def _given_up(self) -> str | None:
        """The join over `incoming` at which the first cancelled token waits."""
        token = self.model.tokens.get(self.rows[0].get("token_id", ""))
        if token is None or token.status != WAITING or token.waits_at in self.model.groups:
            return None
        return token.waits_at

    # --- the end -------------------------------------------------------------------------------------------------

    def _read_timed_out(self) -> None:
        self.take_cancels("R11", lambda _token: True, lambda _group: True)
        self.take("R11", "workflow.timed_out")
        deadline_us = self.model.deadline_us
        require(deadline_us is not None and deadline_us <= self.now_us, "turn", f"the run has time until {deadline_us}")

    def _read_completed(self) -> None:
        live = list(self.model.live())
        require(not live, "I10", f"the run completes, and {live} is live")
        output = self._output()
        require(output is not None, "turn", "the run's output has no value, and it completes")
        self.take("turn", "workflow.completed", output=output)
        self.count("R11")

    def _read_late_failure(self) -> None:
        """The run fails with nothing live in it: its output has no value. (Waiting for what cannot come is a mistake: R4.)"""
        row = self.rows[0]
        require(row["error"]["type"] == "ExpressionError", "R4", f"nothing calls for this failure: {row}")
        require(self._output() is None and not list(self.model.live()), "turn", f"the output has a value: {row}")
        self.take("turn", "workflow.failed")
        self.count("R11")

    def _output(self) -> Any:
        scope = self.model.scope_of(None)
        mapping = self.reading.definition.output
        try:
            return {name: self.reading.evaluate(text, scope) for name, text in mapping.items()} if mapping else scope["output"]
        except UndefinedError:
            return None

    # --- the end of a turn ---------------------------------------------------------------------------------------

    def _check_settled(self) -> None:
        """Nothing that must have happened is left undone."""
        model = self.model
        live = list(model.live())
        if model.status in RUN_ENDED:
            require(not live, "I10", f"the run has ended, and {live} is live")
            held = [group for group in model.groups.values() if group.status in HELD]
            require(not held, "I10", f"the run has ended, and {held} is open")
            return
        require(live or model.status == "queued", "I10", "nothing is live, and the run has not ended")
        require(any(token.status != WAITING for token in live), "R4", f"everything waits for what cannot come: {live}")
        self.check_groups_settled()
        self.check_incoming_settled()
        for token in live:
            is_ready = token.status == "pending" and self.reading.nodes[token.node].kind == "compute"
            limited = any(fanout.limit is not None for fanout, _ in model.frames(token))
            require(limited or not is_ready, "turn", f"{token} is to be computed, and is not")

    def _compare(self, state: RunState) -> None:
        """The stored state is what the auditor has read into the events (I4)."""
        model = self.model
        require(model.status == str(state.run.status), "I4", f"the run is {state.run.status}, and must be {model.status}")
        mine = {t.id: (t.status, t.attempt, t.node, t.path, t.scope, t.group, t.due_us) for t in model.tokens.values()}
        theirs = {
            t.id: (str(t.status), t.attempt, t.node_id, t.path_id, t.scope_id, t.group_id, t.due_us)
            for t in state.tokens.values()
        }
        for token_id in {**mine, **theirs}:
            require(
                mine.get(token_id) == theirs.get(token_id),
                "I4",
                f"{token_id}: {mine.get(token_id)}, stored {theirs.get(token_id)}",
            )
        for group in model.groups.values():
            stored = state.groups[group.id]
            require(str(stored.status) == group.status, "I4", f"{group}: stored is {stored}")
            require(stored.size == group.size, "R1", f"{group}: its size is {group.size}, and stored is {stored}")
            require(stored.failures == group.failures, "R10", f"{group}: stored is {stored}")
        require(len(state.groups) == len(model.groups), "I4", f"there are {len(model.groups)} groups, stored {len(state.groups)}")
        for scope in {**model.context, **state.contexts}:
            require(
                model.view(scope) == state.view(scope), "R9", f"scope {scope!r} sees {model.view(scope)}: {state.view(scope)}"
            )
