"""What comes from outside, and what time does: signals, answers, child runs, updates, pauses, timers and timeouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsonschema import Draft202012Validator

from tests.simulation.audit.attempts import Attempts
from tests.simulation.audit.reading import UndefinedError
from tests.simulation.violations import require

if TYPE_CHECKING:
    from typing import Any

    from tests.simulation.audit.model import MGroup, MKept, MToken


class Waits(Attempts):
    """The rules of what waits for the world."""

    # --- signals and gates ---------------------------------------------------------------------------------------

    def read_signal(self) -> None:
        """Read that a signal came: who has waited longest gets it; else it is kept, or lost."""
        row = self.rows[0]
        name = row["signal"]
        self.take("turn", "signal.received")
        nodes = self.reading.listeners[name]
        waiting = [t for t in self.model.live() if t.status == "waiting_for_signal" and t.node in nodes and t.wait is not None]
        if waiting:
            first = min(waiting, key=lambda token: token.wait.at if token.wait else 0)
            self.take("I7", "signal.consumed", token_id=first.id, signal_id=row["signal_id"])
            self.read_result(first)
        elif not any(getattr(self.reading.nodes[node], "retained", True) for node in nodes):
            self.take("turn", "signal.dropped", signal=name, signal_id=row["signal_id"])

    def read_answer(self) -> None:
        """Read that an answer came: the gate takes it, refuses it and asks again, or it is kept for one that is yet to open."""
        row = self.rows[0]
        self.take("turn", "gate.answer_received")
        gate = row["gate"]
        waiting = [t for t in self.model.live() if t.status == "waiting_for_gate" and gate in {t.id, t.node}]
        require(len(waiting) <= 1, "turn", f"an answer was taken that may be for any of {waiting}")
        if waiting:
            self._read_judged(waiting[0], self.model.kept[row["answer_id"]])

    def _read_judged(self, token: MToken, kept: MKept) -> bool:
        """Read what a gate makes of an answer; whether it took it."""
        schema: dict[str, Any] | None = getattr(self.reading.nodes[token.node], "answer", None)
        fits = schema is None or Draft202012Validator(schema).is_valid(kept.payload)
        if fits:
            self.take("I7", "gate.answered", token_id=token.id, answer_id=kept.id)
            self.read_result(token)
            return True
        self.take("turn", "gate.answer_refused", token_id=token.id, answer_id=kept.id)
        self.take("turn", "gate.opened", token_id=token.id)
        return False

    def read_kept_answers(self, token: MToken) -> None:
        """Read what a gate that has just opened makes of answers that came before, in the order in which they came."""
        for kept in list(self.model.kept.values()):
            if kept.kind == "answer" and kept.name in {token.id, token.node} and self._read_judged(token, kept):
                return

    def read_escalation(self) -> None:
        """Read that a gate that was not answered in time asks somebody else."""
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        wait = token.wait
        require(wait is not None and token.status == "waiting_for_gate", "turn", f"{token} is no open gate: {row}")
        assert wait is not None
        steps = sorted(getattr(self.reading.nodes[token.node], "escalate", ()), key=lambda step: step.after_s)
        due_us = wait.since_us + round(steps[wait.level].after_s * 1_000_000)
        require(due_us <= self.now_us, "turn", f"{token} is escalated before {due_us}, at {self.now_us}")
        level = wait.level + 1
        times = [] if wait.deadline_us is None else [wait.deadline_us]
        if level < len(steps):
            times.append(wait.since_us + round(steps[level].after_s * 1_000_000))
        assignee = self.reading.evaluate(steps[wait.level].assignee, self.model.scope_of(token))
        self.take("turn", "gate.escalated", level=level, assignee=assignee, due_us=min(times, default=None))

    def read_fired(self) -> None:
        """Read that a timer's time has come."""
        token = self.model.tokens[self.rows[0]["token_id"]]
        due = token.status == "waiting_for_timer" and token.due_us is not None and token.due_us <= self.now_us
        require(due, "turn", f"{token} goes off before its time, at {self.now_us}")
        self.take("turn", "timer.fired")
        self.read_result(token)

    # --- child runs ----------------------------------------------------------------------------------------------

    def read_child_started(self) -> None:
        """Read that a child run exists."""
        row = self.rows[0]
        child = self.model.children.get(row["child_run_id"])
        require(child is not None and not child.is_started, "I7", f"this child run is not awaited: {row}")
        self.take("I7", "subworkflow.started")

    def read_child_ended(self) -> None:
        """Read that a child run has ended; its token gets the output, or fails, if it still waits for it."""
        row = self.rows[0]
        child = self.model.children.get(row["child_run_id"])
        require(child is not None, "I7", f"this child run is not awaited: {row}")
        assert child is not None
        token = self.model.tokens[child.token]
        waits = token.status == "waiting_for_child" and token.child == child.id
        self.take("I7", row["event_type"], token_id=token.id)
        self.check_child_has_ended(child.id, row)
        if not waits:
            return
        if row["event_type"] == "subworkflow.completed":
            token.result = row.get("result")
            self.read_result(token)
        elif self.model.status not in {"cancelling", "compensating"}:
            self.read_retry(token, row["error"])

    def check_child_has_ended(self, child_id: str, row: dict[str, Any]) -> None:
        """What is told of a child is what it came to: said by who sees both runs."""

    # --- time ----------------------------------------------------------------------------------------------------

    def read_broken_node(self) -> None:
        """Read that a token fails without a result: it cannot start, its time is up, or its guard can never hold."""
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        error = row["error"]["type"]
        kind = "token.failed"
        if token.status == "pending":
            expected = self.start_error(token)
            if error == "GuardUnsatisfied":
                expected = "GuardUnsatisfied" if not self.guard_holds(token) and self.may_be_stuck(row) else None
            require(expected == error, "R10", f"{token} fails with {error}, and should with {expected}: {row}")
        elif token.status in {"waiting_for_gate", "waiting_for_signal"} and error == "Timeout":
            deadline_us = None if token.wait is None else token.wait.deadline_us
            require(
                deadline_us is not None and deadline_us <= self.now_us, "turn", f"{token} has time until {deadline_us}: {row}"
            )
            kind = "token.timed_out"
        elif token.wait is not None:
            require(error == "ExpressionError" and self._has_no_value(token), "guards", f"{token} fails, and why? {row}")
        else:
            self.broken("turn", f"{token} fails, and nothing calls for it", row)
        self.read_end_in_failure(token, kind, error)

    def _has_no_value(self, token: MToken) -> bool:
        """Whether the guard, or the next escalation, of what waits cannot be evaluated."""
        try:
            self.guard_holds(token)
            for step in getattr(self.reading.nodes[token.node], "escalate", ()):
                self.reading.evaluate(step.assignee, self.model.scope_of(token))
        except UndefinedError:
            return True
        return False

    def read_late_child(self) -> None:
        """Read that a child run takes too long: it is told to end, and its attempt has failed."""
        row = self.rows[0]
        token = self.model.tokens[row["token_id"]]
        due = token.status == "waiting_for_child" and token.due_us is not None and token.due_us <= self.now_us
        require(due, "R11", f"the child run of {token} is told to end, and nothing calls for it: {row}")
        self.take("R11", "subworkflow.cancel_requested", child_run_id=token.child)
        self.read_retry(token, {"type": "Timeout", "message": "", "kind": "timeout"})

    # --- commands ------------------------------------------------------------------------------------------------

    def read_update(self) -> None:
        """Read that the state is changed from outside."""
        row = self.take("turn", "update.received")
        for target, value in row["changes"].items():
            written = self.take("R9", "context.updated", token_id=None, scope_id="")
            found = (written["write"]["target"], written["write"]["value"])
            require(found == (target, value), "R9", f"{value!r} must be written to {target}: {written}")

    def read_pause(self) -> None:
        """Read that nothing new is to be started."""
        require(self.model.status in {"running", "waiting"}, "turn", f"the run is {self.model.status}, and is paused")
        self.take("turn", "workflow.paused")

    def read_continue(self) -> None:
        """Read that a paused run goes on."""
        require(self.model.status == "paused", "turn", f"the run is {self.model.status}, and goes on")
        self.take("turn", "workflow.resumed")

    def read_completed_early(self) -> None:
        """Read that a group is complete: it was asked for, or its join has waited long enough."""
        row = self.rows[0]
        group = self.model.groups[row["group_id"]]
        require(group.status == "open", "R4", f"{group} is not open, and is completed: {row}")
        if row.get("key") is None:
            join = self.reading.group_join.get(group.name)
            late = group.due_us is not None and group.due_us <= self.now_us
            proceeds = join is not None and join.spec.on_timeout == "proceed_with_available"
            require(late and proceeds, "R4", f"{group} is completed at {self.now_us}, and nothing calls for it: {row}")
        self.take("R4", "group.completed_early")

    def read_added(self) -> None:
        """Read that members are added to an open group: they continue its numbering."""
        row = self.rows[0]
        group: MGroup = self.model.groups[row["group_id"]]
        require(group.status == "open" and group.is_open, "R1", f"{group} takes no members from outside: {row}")
        self.take("R1", "group.members_added")
        opener = self.model.tokens[group.opener]
        edge = next(e for e in self.reading.leaving[opener.node] if e.group == group.name and e.spec.open)
        made = self.take(
            "R1", "fan_out.started", token_id=opener.id, node_id=edge.target, transition_id=edge.id, count=row["count"],
            first_branch=group.size, group_id=group.id, scoped=True,
        )  # fmt: skip
        has_items = edge.spec.foreach is not None
        require((made.get("items") is not None) == has_items, "R1", f"whether members have items must be {has_items}: {made}")
        require(self.model.fanouts[made["fanout_id"]].first == group.size, "R1", f"their index begins at {group.size}: {made}")
        group.size += row["count"]
        self.count("R1")
