"""Keeps the auditor's picture of a run up to date with its event rows, one by one; refuses what cannot happen at all."""

from __future__ import annotations

from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.audit.model import WAITING, MChild, MGroup, MKept, MToken, MWait
from tests.simulation.violations import Violation, require

if TYPE_CHECKING:
    from collections import Counter

    from tests.simulation.audit.model import Model

Row = dict[str, Any]
RUN_ENDS: Final = MappingProxyType(
    {
        "workflow.completed": "completed",
        "workflow.failed": "failed",
        "workflow.cancelled": "cancelled",
        "workflow.timed_out": "timed_out",
    }
)


class Applying:
    """The picture."""

    def __init__(self, model: Model, decided: Counter[str]) -> None:
        self.model = model
        self.decided = decided
        """Rule -> how often it decided something."""
        self.to_route: deque[tuple[MToken, dict[str, Any] | None]] = deque()
        """Tokens that have ended, with the error they ended in: what follows from it has not been looked at."""

    def count(self, rule: str, times: int = 1) -> None:
        """A rule decided something."""
        self.decided[rule] += times

    def apply(self, row: Row) -> None:
        """Change the picture by one row."""
        kind: str = row["event_type"]
        if kind in RUN_ENDS:
            self.model.status = RUN_ENDS[kind]
        method = getattr(self, f"_{kind.replace('.', '_')}", None)
        if method is not None:
            method(row)

    def _workflow_started(self, row: Row) -> None:
        model = self.model
        model.status = "running"
        model.input = row["input"]
        model.name, model.version = row["workflow_name"], row["workflow_version"]
        model.started_us, model.deadline_us = row["turn_now"], row.get("deadline_us")
        model.depth = row.get("depth", 0)

    def _token_created(self, row: Row) -> None:
        self.add_token(
            MToken(
                row["token_id"],
                row["sequence_number"],
                row["node_id"],
                row["path_id"],
                row.get("parent_id"),
                row.get("transition_id"),
                row.get("scope_id", ""),
                row.get("group_id"),
                row.get("fanout_id"),
                row.get("index"),
                row.get("cause"),
                race=row.get("race_id"),
                holds=tuple(row.get("holds", ())),
                undo_of=row.get("undo_of"),
            )
        )

    def add_token(self, token: MToken) -> None:
        """A token exists."""
        model = self.model
        require(token.id not in model.tokens, "R1", f"token {token.id} is created twice")
        if token.group is not None:
            status = model.groups[token.group].status
            require(status not in {"failed", "cancelled"}, "R10", f"{token} is created in a group that is {status}")
        model.tokens[token.id] = token
        if token.scope == token.id:
            model.around[token.id] = "" if token.parent is None else model.tokens[token.parent].scope

    def _fan_out_started(self, row: Row) -> None:
        for token in self.model.add_fanout(row, row["sequence_number"]):
            self.add_token(token)

    def _group_opened(self, row: Row) -> None:
        group = MGroup(
            row["group_id"], row["sequence_number"], row["name"], row["token_id"], row.get("parent_id"), row.get("tolerated")
        )
        group.is_open, group.due_us = row.get("open", False), row.get("due_us")
        require(group.id not in self.model.groups, "R3", f"group {group.id} is opened twice")
        self.model.groups[group.id] = group

    def _end(self, row: Row, status: str) -> MToken:
        token = self.model.tokens[row["token_id"]]
        require(token.is_live, "R11", f"{token} becomes {status}, and has ended")
        token.status = status
        token.due_us = None
        return token

    def _token_completed(self, row: Row) -> None:
        self.to_route.append((self._end(row, "completed"), None))

    def _token_failed(self, row: Row) -> None:
        token = self._end(row, "failed")
        token.error = row["error"]
        self.to_route.append((token, row["error"]))

    def _token_timed_out(self, row: Row) -> None:
        token = self._end(row, "timed_out")
        token.error = row["error"]
        self.to_route.append((token, row["error"]))

    def _token_cancelled(self, row: Row) -> None:
        token = self._end(row, "cancelled")
        if row.get("routed", False):
            self.to_route.append((token, None))

    def _token_waiting(self, row: Row) -> None:
        token = self.model.tokens[row["token_id"]]
        require(token.status == "pending", "R3", f"{token} cannot begin to wait")
        self.model.arrivals += 1
        token.status, token.waits_at, token.arrived = WAITING, row["join_id"], self.model.arrivals
        token.due_us = row.get("due_us")

    def _token_requeued(self, row: Row) -> None:
        token = self.model.tokens[row["token_id"]]
        token.status, token.due_us, token.wait = "pending", None, None
        token.solo = token.solo or row.get("solo", False)

    def _task_dispatched(self, row: Row) -> None:
        token = self.model.tokens[row["token_id"]]
        token.status, token.attempt, token.epoch, token.due_us = "dispatched", row["attempt"], row["epoch"], row.get("due_us")
        if row.get("first", True):
            token.given = row.get("input")

    def _task_completed(self, row: Row) -> None:
        self.model.tokens[row["token_id"]].result = row.get("result")

    def _task_retry_scheduled(self, row: Row) -> None:
        token = self.model.tokens[row["token_id"]]
        token.status, token.due_us = "waiting_for_retry", row["due_us"]
        token.failures[row["rule"]] = token.failures.get(row["rule"], 0) + 1

    def _context_updated(self, row: Row) -> None:
        self._write(row["scope_id"], row["write"])

    def _context_output_applied(self, row: Row) -> None:
        for write in row["writes"]:
            self._write(row["scope_id"], write)

    def _branches_merged(self, row: Row) -> None:
        self._context_output_applied(row)

    def _write(self, scope: str, write: Row) -> None:
        if scope:
            self.count("R9")
        try:
            self.model.write(scope, write["target"], write["value"])
        except AttributeError:
            raise Violation("R9", f"{write} cannot be written into {self.model.view(scope)}") from None

    def _group_closed(self, row: Row) -> None:
        group = self.model.groups[row["group_id"]]
        group.status = "fired" if group.status == "passing" else "skipped"

    def _group_failed(self, row: Row) -> None:
        self.model.groups[row["group_id"]].status = "failed"

    def _group_cancelled(self, row: Row) -> None:
        self.model.groups[row["group_id"]].status = "cancelled"

    def _group_failure_tolerated(self, row: Row) -> None:
        self.model.groups[row["group_id"]].failures += 1

    def _fan_in_completed(self, row: Row) -> None:
        join_id = row["join_id"]
        taken = row.get("token_ids")
        ids = [token.id for token in self.model.waiting_at(join_id)] if taken is None else taken
        self._consume(join_id, ids, round_open=row.get("round_open", False))
        if join_id in self.model.groups:
            self.model.groups[join_id].status = "passing" if row.get("passing", False) else "fired"

    def _fan_in_absorbed(self, row: Row) -> None:
        self._consume(row["join_id"], row["token_ids"], round_open=True)

    def _consume(self, join_id: str, token_ids: list[str], *, round_open: bool) -> None:
        for token_id in token_ids:
            token = self.model.tokens[token_id]
            require(
                token.status == WAITING and token.waits_at == join_id, "R3", f"{token} does not wait at {join_id}, which takes it"
            )
            token.status, token.due_us = "completed", None
            if round_open:
                self.model.rounds.setdefault(join_id, set()).add(token.transition or "")

    def _fan_in_reset(self, row: Row) -> None:
        del self.model.rounds[row["join_id"]]

    def _group_completed_early(self, row: Row) -> None:
        self.model.groups[row["group_id"]].is_complete = True

    def _group_sealed(self, row: Row) -> None:
        self.model.groups[row["group_id"]].is_open = False

    # --- what waits for the world ----------------------------------------------------------------------------------

    def _begin_waiting(self, row: Row, status: str, deadline_us: int | None, due_us: int | None) -> None:
        token = self.model.tokens[row["token_id"]]
        require(token.status == "pending", "turn", f"{token} cannot become {status}")
        token.status, token.due_us = status, due_us
        token.wait = MWait(row["turn_now"], row["sequence_number"], deadline_us)

    def _gate_opened(self, row: Row) -> None:
        if self.model.tokens[row["token_id"]].status != "waiting_for_gate":
            self._begin_waiting(row, "waiting_for_gate", row.get("deadline_us"), row.get("due_us"))

    def _signal_awaited(self, row: Row) -> None:
        self._begin_waiting(row, "waiting_for_signal", row.get("deadline_us"), row.get("deadline_us"))

    def _timer_set(self, row: Row) -> None:
        self._begin_waiting(row, "waiting_for_timer", row["due_us"], row["due_us"])

    def _gate_escalated(self, row: Row) -> None:
        token = self.model.tokens[row["token_id"]]
        token.due_us = row.get("due_us")
        if token.wait is not None:
            token.wait.level = row["level"]

    def _gate_answer_received(self, row: Row) -> None:
        self.model.kept[row["answer_id"]] = MKept(row["answer_id"], "answer", row["gate"], row.get("answer"))

    def _gate_answered(self, row: Row) -> None:
        self.model.tokens[row["token_id"]].result = self._unkeep(row["answer_id"])

    def _gate_answer_refused(self, row: Row) -> None:
        self._unkeep(row["answer_id"])

    def _signal_received(self, row: Row) -> None:
        self.model.kept[row["signal_id"]] = MKept(row["signal_id"], "signal", row["signal"], row.get("payload"))

    def _signal_consumed(self, row: Row) -> None:
        self.model.tokens[row["token_id"]].result = self._unkeep(row["signal_id"])

    def _signal_dropped(self, row: Row) -> None:
        self._unkeep(row["signal_id"])

    def _unkeep(self, kept_id: str) -> Any:
        require(kept_id in self.model.kept, "I7", f"{kept_id} is not kept: it was consumed before, or never came")
        return self.model.kept.pop(kept_id).payload

    def _mutex_requested(self, row: Row) -> None:
        token = self.model.tokens[row["token_id"]]
        token.wanted, token.wanted_at = tuple(row["names"]), row["sequence_number"]

    def _mutex_acquired(self, row: Row) -> None:
        token = self.model.tokens[row["token_id"]]
        token.wanted, token.holds = (), (*token.holds, *row["names"])

    # --- children, and the end -------------------------------------------------------------------------------------

    def _subworkflow_requested(self, row: Row) -> None:
        token = self.model.tokens[row["token_id"]]
        require(token.status == "pending", "turn", f"{token} cannot start a child run")
        token.status, token.attempt, token.child, token.due_us = (
            "waiting_for_child", row["attempt"], row["child_run_id"], row.get("due_us")
        )  # fmt: skip
        require(row["child_run_id"] not in self.model.children, "I8", f"child run {row['child_run_id']} is requested twice")
        self.model.children[row["child_run_id"]] = MChild(row["child_run_id"], token.id)

    def _subworkflow_started(self, row: Row) -> None:
        self.model.children[row["child_run_id"]].is_started = True

    def _subworkflow_cancel_requested(self, row: Row) -> None:
        self.model.children[row["child_run_id"]].is_cancelled = True

    def _subworkflow_completed(self, row: Row) -> None:
        del self.model.children[row["child_run_id"]]

    def _subworkflow_failed(self, row: Row) -> None:
        del self.model.children[row["child_run_id"]]

    def _workflow_paused(self, row: Row) -> None:
        self.model.status = "paused"

    def _workflow_resumed(self, row: Row) -> None:
        self.model.status = "running"

    def _workflow_waiting(self, row: Row) -> None:
        self.model.status = "waiting"

    def _workflow_running(self, row: Row) -> None:
        self.model.status = "running"

    def _workflow_ending(self, row: Row) -> None:
        self.model.status, self.model.ending = "cancelling", row["ending"]

    def _compensation_registered(self, row: Row) -> None:
        self.model.undos[row["token_id"]] = (row["undo_node_id"], row.get("input"))

    def _compensation_started(self, row: Row) -> None:
        self.model.status = "compensating"

    def _compensation_completed(self, row: Row) -> None:
        del self.model.undos[row["token_id"]]

    def _compensation_failed(self, row: Row) -> None:
        del self.model.undos[row["token_id"]]
