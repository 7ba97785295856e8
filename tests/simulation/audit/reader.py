"""Reads the event rows of a turn one by one, and keeps the model up to date with them.

`take` is how the rules say what must come next: a row of that kind with these fields, or a rule is broken.
"""

from __future__ import annotations

from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.audit.applying import Applying
from tests.simulation.violations import Violation, require

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.simulation.audit.model import MGroup, Model, MToken
    from tests.simulation.audit.reading import Reading

Row = dict[str, Any]
CANCELS: Final = frozenset({"token.cancelled", "group.cancelled", "subworkflow.cancel_requested"})


class Reader(Applying):
    """The rows of one run, turn by turn."""

    def __init__(self, model: Model, decided: Counter[str]) -> None:
        super().__init__(model, decided)
        self.rows: deque[Row] = deque()
        """What is still to be read of the turn."""
        self.now_us = 0
        """The time of the turn that is read."""

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
        self.apply(row)
        return row

    def broken(self, rule: str, message: str, row: Row | None) -> Any:
        """Raise a violation that shows the row."""
        what = "nothing more comes" if row is None else f"there is {_short(row)}"
        raise Violation(rule, f"{message}; {what}")

    def take_cancels(self, rule: str, may: Callable[[MToken], bool], group_may: Callable[[MGroup], bool]) -> None:
        """Read all cancels that come next; each must be of something that may be cancelled now, and is live."""
        if self.next_kind() in CANCELS:
            self.count("R11")
        while self.next_kind() in CANCELS:
            self.take_cancel(rule, may, group_may)

    def take_cancel(self, rule: str, may: Callable[[MToken], bool], group_may: Callable[[MGroup], bool]) -> None:
        """Read one cancel."""
        row = self.peek() or {}
        if row.get("event_type") not in CANCELS:
            self.broken(rule, "something must be cancelled next", self.peek())
        if row["event_type"] == "group.cancelled":
            group = self.model.groups[row["group_id"]]
            require(group.status in {"open", "passing"}, "R11", f"{group} is cancelled, and is not open")
            require(group_may(group), rule, f"{group} must not be cancelled here")
            self.take(rule, "group.cancelled")
        else:
            token = self.model.tokens[row["token_id"]]
            require(token.is_live, "R11", f"{token} is cancelled, and has ended")
            require(may(token), rule, f"{token} must not be cancelled here")
            self.take_token_cancel(rule, token, routed=False)

    def take_token_cancel(self, rule: str, token: MToken, *, routed: bool) -> None:
        """Read that a token is cancelled, and the child run that it waits for with it (R11)."""
        child = self.model.children.get(token.child or "")
        if token.status == "waiting_for_child" and child is not None and not child.is_cancelled:
            self.take("R11", "subworkflow.cancel_requested", child_run_id=child.id)
        self.take(rule, "token.cancelled", token_id=token.id, routed=routed)


_DEFAULTS: Final = MappingProxyType(
    {
        **dict.fromkeys(("solo", "scoped", "passing", "round_open", "routed", "open"), False),
        "scope_id": "",
        "item_name": "item",
        "first_branch": 0,
        "first": True,
        "holds": [],
    }
)
"""What a field is where a row leaves it out."""


def _short(fields: dict[str, Any]) -> str:
    hidden = {"metadata", "turn", "turn_now", "timestamp", "epoch"}
    return f"{ {name: value for name, value in fields.items() if name not in hidden}!r:.600}"
