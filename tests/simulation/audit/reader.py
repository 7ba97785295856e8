"""Reads the event rows of a turn one by one, and keeps the model up to date with them.

`take` is how the rules say what must come next: a row of that kind with these fields, or a rule is broken.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.audit.model import ENDED, WAITING, MGroup, MToken
from tests.simulation.violations import Violation, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.audit.model import Model
    from tests.simulation.audit.reading import Reading

Row = dict[str, Any]
CANCELS: Final = frozenset({"token.cancelled", "group.cancelled"})
RUN_ENDS: Final = {
    "workflow.completed": "completed",
    "workflow.failed": "failed",
    "workflow.cancelled": "cancelled",
    "workflow.timed_out": "timed_out",
}


class Reader:
    """The rows of one run, turn by turn."""

    def __init__(self, model: Model, decided: Counter[str]) -> None:
        self.model = model
        self.decided = decided
        """Rule -> how often it decided something."""
        self.rows: deque[Row] = deque()
        self.to_route: deque[tuple[MToken, dict[str, Any] | None]] = deque()
        """Tokens that have ended, with the error they ended in: what follows from it has not been looked at."""

    @property
    def reading(self) -> Reading:
        """The definition."""
        return self.model.reading

    def load(self, rows: list[Row]) -> None:
        """The rows of the next turn, their metadata unpacked."""
        for row in rows:
            self.rows.append(row | msgspec.json.decode(row["metadata"]) if row.get("metadata") else row)

    def peek(self, nth: int = 0) -> Row | None:
        """A row that is still to be read."""
        return self.rows[nth] if nth < len(self.rows) else None

    def next_kind(self) -> str:
        """The kind of the next row, or nothing."""
        return self.rows[0]["event_type"] if self.rows else ""

    def after_cancels(self) -> Row | None:
        """The first row to come that cancels nothing."""
        return next((row for row in self.rows if row["event_type"] not in CANCELS), None)

    def take(self, rule: str, kind: str, /, **fields: Any) -> Row:
        """Read the next row, which must be of this kind and have these fields."""
        row = self.peek() or {}
        if row.get("event_type") != kind:
            self.broken(rule, f"{kind} {_short(fields)} must come next", self.peek())
        for name, value in fields.items():
            if row.get(name, _DEFAULTS.get(name)) != value:
                self.broken(rule, f"{kind}: {name} must be {value!r:.300}", row)
        self.rows.popleft()
        self._apply(row)
        return row

    def broken(self, rule: str, message: str, row: Row | None) -> Any:
        """Raise a violation that shows the row."""
        what = "nothing more comes" if row is None else f"there is {_short(row)}"
        raise Violation(rule, f"{message}; {what}")

    def count(self, rule: str, times: int = 1) -> None:
        """A rule decided something."""
        self.decided[rule] += times

    def take_cancels(self, rule: str, may: Callable[[MToken], bool], group_may: Callable[[MGroup], bool]) -> int:
        """Read all cancels that come next; each must be of something that may be cancelled now, and is live."""
        taken = 0
        while self.next_kind() in CANCELS:
            row = self.rows[0]
            if row["event_type"] == "token.cancelled":
                token = self.model.tokens[row["token_id"]]
                require(token.is_live, "R11", f"{token} is cancelled, and has ended")
                require(may(token), rule, f"{token} must not be cancelled here")
            else:
                group = self.model.groups[row["group_id"]]
                require(group.status in {"open", "passing"}, "R11", f"{group} is cancelled, and is not open")
                require(group_may(group), rule, f"{group} must not be cancelled here")
            self.take(rule, row["event_type"])
            taken += 1
        if taken:
            self.count("R11")
        return taken

    # --- keeping the model ---------------------------------------------------------------------------------------

    def _apply(self, row: Row) -> None:
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
        self._end(row, "cancelled")

    def _token_waiting(self, row: Row) -> None:
        token = self.model.tokens[row["token_id"]]
        require(token.status == "pending", "R3", f"{token} cannot begin to wait")
        self.model.arrivals += 1
        token.status, token.waits_at, token.arrived = WAITING, row["join_id"], self.model.arrivals

    def _token_requeued(self, row: Row) -> None:
        token = self.model.tokens[row["token_id"]]
        token.status, token.due_us = "pending", None
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
            token.status = "completed"
            if round_open:
                self.model.rounds.setdefault(join_id, set()).add(token.transition or "")

    def _fan_in_reset(self, row: Row) -> None:
        del self.model.rounds[row["join_id"]]


_DEFAULTS: Final = {
    "scope_id": "", "item_name": "item", "first_branch": 0, "first": True, "solo": False, "scoped": False,
    "passing": False, "round_open": False,
}  # fmt: skip


def _short(fields: dict[str, Any]) -> str:
    hidden = {"metadata", "turn", "turn_now", "timestamp", "epoch"}
    return f"{ {name: value for name, value in fields.items() if name not in hidden}!r:.600}"


def is_live_status(status: str) -> bool:
    """Whether a token's status is not its last."""
    return status not in ENDED
