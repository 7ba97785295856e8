"""Trace events: the low-level record of how a turn went, for runs that ask for it; a stream of its own, never folded.

| event type | category | when |
|---|---|---|
| `operation.tokens.created` | operation | after each token exists (one per token of a fan-out) |
| `operation.tokens.status_updated` | operation | after each end of a token |
| `operation.context.field_set` | operation | after each `context.updated` (other writes are in their own events) |
| `decision.routing.start` | decision | before a fact is planned |
| `decision.planning.completed` | decision | after planning: the decisions, as data |
| `dispatch.batch.start` | dispatch | when a turn marks tokens for dispatch |
| `dispatch.error` | dispatch | a result was refused; or a decision failed, and with it the turn, of which nothing else is left |
| `sql.query` | sql | after a turn's commit, with its duration and row counts (written with the next turn) |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.events.lines import TraceLine
from wonder_ray.fold import fan_out_token_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wonder_ray.decisions import Decision


class Tracer:
    """Collects the trace events of a run, turn by turn."""

    def __init__(self, last_sequence: int) -> None:
        self._sequence = last_sequence
        self._turn = 0
        self._now_us = 0
        self._epoch = 0
        self._rows: list[tuple[int, bytes]] = []
        self._begun = 0
        """How many of the rows are from before the turn."""

    def begin(self, turn: int, now_us: int, epoch: int) -> None:
        """A turn begins."""
        self._turn, self._now_us, self._epoch = turn, now_us, epoch
        self._begun = len(self._rows)

    def fail(self, decision: Decision | None, error: BaseException) -> None:
        """The turn has failed: what was traced of it never happened; note only that."""
        self._sequence -= len(self._rows) - self._begun
        del self._rows[self._begun :]
        self.add("dispatch.error", decision=decision, reason=f"{type(error).__name__}: {error}")

    def add(self, event_type: str, *, node_id: str | None = None, token_id: str | None = None, **payload: Any) -> None:
        """Note one trace event; `duration_ms` in the payload becomes a column."""
        self._sequence += 1
        line = TraceLine(
            sequence_number=self._sequence,
            turn=self._turn,
            timestamp=self._now_us,
            epoch=self._epoch,
            event_type=event_type,
            category=event_type.split(".", 1)[0],
            node_id=node_id,
            token_id=token_id,
            duration_ms=payload.pop("duration_ms", None),
            payload=msgspec.json.encode(payload).decode() if payload else None,
        )
        self._rows.append((self._sequence, msgspec.json.encode(line)))

    def decisions(self, cause: str, decisions: list[Decision]) -> None:
        """What planners answered."""
        self.add("decision.planning.completed", cause=cause, decisions=decisions)

    def event(self, event: ev.WorkflowEvent) -> None:
        """The operations behind one workflow event."""
        for event_type, about in _operations(event):
            self.add(event_type, **about)

    def take(self) -> list[tuple[int, bytes]]:
        """The rows since the last call."""
        rows, self._rows = self._rows, []
        return rows


def _operations(event: ev.WorkflowEvent) -> Iterator[tuple[str, dict[str, Any]]]:
    match event:
        case ev.TokenCreated():
            yield "operation.tokens.created", {"token_id": event.token_id, "node_id": event.node_id, "path_id": event.path_id}
        case ev.FanOutStarted():
            for i in range(event.count):
                yield (
                    "operation.tokens.created",
                    {"token_id": fan_out_token_id(event.fanout_id, i), "node_id": event.node_id, "index": i},
                )
        case ev.TokenCompleted() | ev.TokenFailed() | ev.TokenTimedOut() | ev.TokenCancelled():
            status = ev.event_type(event).split(".", 1)[1]
            yield "operation.tokens.status_updated", {"token_id": event.token_id, "node_id": event.node_id, "status": status}
        case ev.ContextUpdated():
            write = event.write
            yield "operation.context.field_set", {"path": write.target, "op": write.op, "scope_id": event.scope_id}
        case _:
            return
