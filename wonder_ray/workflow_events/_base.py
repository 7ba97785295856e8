"""What all workflow events share, and which of their fields are columns of the event dataset."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

COLUMNS: Final = ("node_id", "token_id", "path_id", "attempt", "duration_ms", "tokens", "cost_usd", "message")


class Stamp(NamedTuple):
    """Where and when an event stands in its run."""

    sequence_number: int
    """1, 2, 3, ... without gaps over the whole life of the run."""
    turn: int
    turn_now: int
    """The turn's `now`, microseconds UTC: the time that its planners were given."""
    epoch: int


class WorkflowEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event_type", gc=False):
    """Base of all workflow events."""


class TokenEvent(WorkflowEvent, frozen=True):
    """Base of the events about one token."""

    token_id: str
    node_id: str
    path_id: str
