"""The rows of events: one line each in the stream of their run."""

from __future__ import annotations

import operator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from wonder_ray.errors import HistoryConflictError
from wonder_ray.workflow_events import _groups, _runs, _tokens, _waits
from wonder_ray.workflow_events._base import COLUMNS, Stamp, TokenEvent, WorkflowEvent

if TYPE_CHECKING:
    from collections.abc import Callable

_PARTS: Final = (_runs, _tokens, _groups, _waits)


def _is_event(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, WorkflowEvent) and found not in {WorkflowEvent, TokenEvent}


def _tag(cls: type[WorkflowEvent]) -> str:
    return str(cls.__struct_config__.tag)


EVENT_TYPES: Final = MappingProxyType({_tag(cls): cls for part in _PARTS for cls in vars(part).values() if _is_event(cls)})
"""Event type -> class."""
TERMINAL_EVENTS: Final = frozenset({"workflow.completed", "workflow.failed", "workflow.timed_out", "workflow.cancelled"})


def _getter(names: tuple[str, ...]) -> Callable[[WorkflowEvent], tuple[Any, ...]]:
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda event: tuple([getattr(event, name) for name in names])


class _Layout(NamedTuple):
    """How events of one class lie in a row: structs, which are encoded without a look at each field from Python."""

    columns: tuple[str, ...]
    get_columns: Callable[[WorkflowEvent], tuple[Any, ...]]
    get_metadata: Callable[[WorkflowEvent], tuple[Any, ...]]
    row: Callable[..., msgspec.Struct]
    metadata: Callable[..., msgspec.Struct] | None
    """Its fields that are no columns; what is its default is left out."""


def _layout(cls: type[WorkflowEvent]) -> _Layout:
    columns = tuple(name for name in COLUMNS if name in cls.__struct_fields__)
    rest = [field for field in msgspec.structs.fields(cls) if field.name not in COLUMNS]
    head = [(name, Any) for name in (*Stamp._fields, "timestamp", "event_type")]
    row = msgspec.defstruct("Row", [*head, *((name, Any, None) for name in (*columns, "metadata"))], omit_defaults=True)
    fields = [(f.name, Any) if f.default is msgspec.NODEFAULT else (f.name, Any, f.default) for f in rest]
    metadata = msgspec.defstruct("Metadata", fields, omit_defaults=True) if fields else None
    return _Layout(columns, _getter(columns), _getter(tuple(field.name for field in rest)), row, metadata)


_LAYOUTS: Final = MappingProxyType({cls: _layout(cls) for cls in EVENT_TYPES.values()})
_json = msgspec.json.Encoder()


def event_type(event: WorkflowEvent) -> str:
    """The namespaced name of an event, such as `token.created`."""
    return _tag(type(event))


def encode_line(event: WorkflowEvent, stamp: Stamp) -> bytes:
    """The event as one line (a JSON object without line breaks) of the run's stream."""
    layout = _LAYOUTS[type(event)]
    metadata = None if layout.metadata is None else _json.encode(layout.metadata(*layout.get_metadata(event))).decode()
    tag = event.__struct_config__.tag
    return _json.encode(layout.row(*stamp, stamp.turn_now, tag, *layout.get_columns(event), metadata))


def decode_event(row: dict[str, Any]) -> WorkflowEvent:
    """The event of a row (a decoded line, or a row of the Parquet dataset)."""
    cls = EVENT_TYPES.get(row["event_type"])
    if cls is None:
        msg = f"event {row.get('sequence_number')}: unknown type {row['event_type']!r}; it was written by a newer wonder-ray"
        raise HistoryConflictError(msg)
    fields: dict[str, Any] = msgspec.json.decode(row["metadata"]) if row.get("metadata") else {}
    for field in _LAYOUTS[cls].columns:
        if row.get(field) is not None:
            fields[field] = row[field]
    fields["event_type"] = row["event_type"]
    event: WorkflowEvent = msgspec.convert(fields, cls)
    return event
