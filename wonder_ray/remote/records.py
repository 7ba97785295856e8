"""What the API tells, made the records again that the client on Ray gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.coordinator.messages import Snapshot
from wonder_ray.events.query import EventRow, TraceRow
from wonder_ray.planning.queries import Waiting
from wonder_ray.resources.records import RunRecord
from wonder_ray.state import RunStatus
from wonder_ray.values import encode_trusted

if TYPE_CHECKING:
    from collections.abc import Mapping

_JSON: Final = ("output", "error", "fork")
_UNTOLD: Final = {"epoch": 0, "placement": None, "input": b"null"}
"""What the API keeps to itself, or a list leaves out."""


def run_record(told: Mapping[str, Any]) -> RunRecord:
    """A run as the registry knows it; where its coordinator lives is not told."""
    known = {name: told[name] for name in RunRecord.__struct_fields__ if name in told}
    known |= {name: None if known.get(name) is None else encode_trusted(known[name]) for name in _JSON}
    if "input" in told:
        known["input"] = encode_trusted(told["input"])
    return RunRecord(**{**_UNTOLD, **known, "status": RunStatus(told["status"])})


def snapshot(told: Mapping[str, Any]) -> Snapshot | None:
    """How it stands, from its coordinator; None when that did not tell."""
    if not told.get("live"):
        return None
    known = {name: told[name] for name in Snapshot.__struct_fields__ if name in told}
    known |= {"waiting": tuple(waits(told["waiting"])), "events": told["events"] or 0, "tokens": told["tokens"] or 0}
    return Snapshot(**known)


def waits(told: list[dict[str, Any]]) -> list[Waiting]:
    """What a run waits for."""
    return [msgspec.convert(each, Waiting) for each in told]


def event_row(told: dict[str, Any]) -> EventRow:
    """An event."""
    return EventRow(metadata=_text(told.pop("details", None)), **told)


def trace_row(told: dict[str, Any]) -> TraceRow:
    """A trace event."""
    return TraceRow(payload=_text(told.pop("details", None)), **told)


def _text(details: object) -> str | None:
    return encode_trusted(details).decode() if details else None
