"""What views and reports must say, computed in Python: rows are folded one by one, and looked at after each."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.fold import evolve, new_state
from wonder_ray.state import TERMINAL_TOKEN, Token, TokenStatus
from wonder_ray.workflow_events import Stamp, decode_event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.fold import Folding

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
CLOSING: Final = {
    "task.completed": "completed",
    "task.failed": "failed",
    "token.requeued": "lost",
    "token.cancelled": "cancelled",
}


def at(us: int) -> dt.datetime:
    """A time as queries give it."""
    return EPOCH + dt.timedelta(microseconds=us)


@dataclass
class Life:
    """When a token came to be, and when it ended."""

    token: Token
    created: dict[str, Any]
    ended: dict[str, Any] | None = None
    """The rows in which it did."""

    @property
    def status(self) -> str:
        """As the view `tokens` calls it."""
        if self.token.status is TokenStatus.COMPLETED and self.token.join_id is not None:
            return "joined"
        if self.token.status in TERMINAL_TOKEN:
            return str(self.token.status)
        return "waiting" if self.token.status is TokenStatus.WAITING_FOR_SIBLINGS else "live"


@dataclass
class Attempt:
    """One dispatch."""

    token_id: str
    node_id: str
    attempt: int
    ready_us: int
    dispatched_us: int
    outcome: str = "open"
    ended_us: int | None = None
    end: dict[str, Any] = field(default_factory=dict)
    """The row that ended it."""

    @property
    def open_ms(self) -> float | None:
        return None if self.ended_us is None else (self.ended_us - self.dispatched_us) / 1000

    @property
    def spent_ms(self) -> float:
        """What the executor measured, else what the coordinator saw."""
        measured = self.end.get("duration_ms")
        return float(self.open_ms or 0 if measured is None else measured)


class History:
    """A run's rows, folded."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self.rows = [row | msgspec.json.decode(row.get("metadata") or "{}") for row in rows]
        self.lives: dict[str, Life] = {}
        self.attempts: list[Attempt] = []
        self.state: Folding = new_state("run_x")
        self._ready_us: dict[str, int] = {}
        self._open: dict[str, Attempt] = {}
        for row in self.rows:
            before = len(self.state.tokens)
            event = decode_event(row)
            evolve(self.state, event, Stamp(row["sequence_number"], row["turn"], row["turn_now"], row["epoch"]))
            self._note_lives(row, before)
            self._note_attempts(row)

    def _note_lives(self, row: dict[str, Any], before: int) -> None:
        for token in list(self.state.tokens.values())[before:]:
            self.lives[token.id] = Life(token, row)
            self._ready_us[token.id] = row["timestamp"]
        for life in self.lives.values():
            if life.ended is None and life.token.status in TERMINAL_TOKEN:
                life.ended = row

    def _note_attempts(self, row: dict[str, Any]) -> None:
        kind, token_id, now_us = row["event_type"], row.get("token_id", ""), row["timestamp"]
        if kind in CLOSING and (closed := self._open.pop(token_id, None)) is not None:
            closed.outcome, closed.ended_us, closed.end = CLOSING[kind], now_us, row
            if kind == "task.failed" and row["error"].get("kind") in {"lost", "oom", "node"}:
                closed.outcome = "lost"
            if kind == "task.failed" and row["error"].get("kind") == "timeout":
                closed.outcome = "timed_out"
        if kind == "token.requeued":
            self._ready_us[token_id] = now_us
        if kind == "task.dispatched":
            made = Attempt(token_id, row["node_id"], row["attempt"], self._ready_us[token_id], now_us)
            self._open[token_id] = made
            self.attempts.append(made)

    @property
    def duration_ms(self) -> float:
        """From the first to the last row."""
        return float((self.rows[-1]["timestamp"] - self.rows[0]["timestamp"]) / 1000)

    def work_of(self, token_ids: Iterable[str]) -> float:
        """The time that the attempts of some tokens have taken."""
        wanted = set(token_ids)
        return sum(attempt.spent_ms for attempt in self.attempts if attempt.token_id in wanted)

    def branches(self, fanout_id: str) -> dict[int, list[str]]:
        """Branch -> the tokens in it, those in fan-outs inside it included, by the coordinator's own records."""
        found: dict[int, list[str]] = defaultdict(list)
        for token in self.state.tokens.values():
            place, branch = token.fanout_id, token.index
            while place is not None and place != fanout_id:
                fanout = self.state.fanouts[place]
                place, branch = fanout.outer_id, fanout.outer_index
            if place is not None and branch is not None:
                found[branch].append(token.id)
        return found
