"""The rows of events: one line each in the stream of their run."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import msgspec

from wonder_ray.errors import HistoryConflictError
from wonder_ray.workflow_events import _groups, _runs, _tokens, _waits
from wonder_ray.workflow_events._base import COLUMNS, Stamp, TokenEvent, WorkflowEvent

_PARTS: Final = (_runs, _tokens, _groups, _waits)


def _is_event(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, WorkflowEvent) and found not in {WorkflowEvent, TokenEvent}


def _tag(cls: type[WorkflowEvent]) -> str:
    return str(cls.__struct_config__.tag)


EVENT_TYPES: Final = MappingProxyType({_tag(cls): cls for part in _PARTS for cls in vars(part).values() if _is_event(cls)})
"""Event type -> class."""
TERMINAL_EVENTS: Final = frozenset({"workflow.completed", "workflow.failed", "workflow.timed_out", "workflow.cancelled"})

_METADATA_FIELDS: Final = MappingProxyType(
    {
        cls: tuple((f.name, f.default) for f in msgspec.structs.fields(cls) if f.name not in COLUMNS)
        for cls in EVENT_TYPES.values()
    }
)
"""Class -> (field, default) of what goes into the metadata; a value that is its default is left out."""
_COLUMN_FIELDS: Final = MappingProxyType(
    {cls: tuple(f for f in COLUMNS if f in cls.__struct_fields__) for cls in EVENT_TYPES.values()}
)
_json = msgspec.json.Encoder()


def event_type(event: WorkflowEvent) -> str:
    """The namespaced name of an event, such as `token.created`."""
    return _tag(type(event))


def encode_line(event: WorkflowEvent, stamp: Stamp) -> bytes:
    """The event as one line (a JSON object without line breaks) of the run's stream."""
    cls = type(event)
    row: dict[str, Any] = {
        "sequence_number": stamp.sequence_number,
        "turn": stamp.turn,
        "turn_now": stamp.turn_now,
        "epoch": stamp.epoch,
        "timestamp": stamp.turn_now,
        "event_type": _tag(cls),
    }
    for field in _COLUMN_FIELDS[cls]:
        value = getattr(event, field)
        if value is not None:
            row[field] = value
    fields = _METADATA_FIELDS[cls]
    if fields:
        given = {name: value for name, default in fields if (value := getattr(event, name)) is not default}
        row["metadata"] = _json.encode(given).decode()
    return _json.encode(row)


def decode_event(row: dict[str, Any]) -> WorkflowEvent:
    """The event of a row (a decoded line, or a row of the Parquet dataset)."""
    cls = EVENT_TYPES.get(row["event_type"])
    if cls is None:
        msg = f"event {row.get('sequence_number')}: unknown type {row['event_type']!r}; it was written by a newer wonder-ray"
        raise HistoryConflictError(msg)
    fields: dict[str, Any] = msgspec.json.decode(row["metadata"]) if row.get("metadata") else {}
    for field in _COLUMN_FIELDS[cls]:
        if row.get(field) is not None:
            fields[field] = row[field]
    fields["event_type"] = row["event_type"]
    event: WorkflowEvent = msgspec.convert(fields, cls)
    return event
