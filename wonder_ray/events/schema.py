"""The Arrow schemas of the two datasets. They change only by adding nullable columns at the end.

The folder's `date=` is the UTC day of `timestamp`; it is no column of the files.

>>> EVENT_SCHEMA.field("timestamp").type
TimestampType(timestamp[us, tz=UTC])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from wonder_ray.events.wire import Stream

SCHEMA_VERSION: Final = 1

_TIME: Final = pa.timestamp("us", tz="UTC")


def _field(name: str, kind: pa.DataType, description: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": description})


def _required(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return _field(name, kind, description, nullable=False)


_RUN: Final = (
    _required("workspace_id", pa.string(), "The workspace of the run."),
    _required("project_id", pa.string(), "The project of the run."),
    _required("root_run_id", pa.string(), "The outermost run that this run belongs to; itself when it has no parent."),
    _field("parent_run_id", pa.string(), "The run that started this one as a child."),
    _required("workflow_name", pa.string(), "The name of the workflow."),
    _required("workflow_version", pa.string(), "The version of the workflow's definition."),
)

EVENT_SCHEMA: Final = pa.schema(
    [
        _required("workflow_run_id", pa.string(), "The run; ids sort by the time of the start."),
        _required("sequence_number", pa.int64(), "1, 2, 3, ... without gaps over the whole life of the run."),
        _required("turn", pa.int64(), "The turn of the coordinator that committed the row; a turn is one transaction."),
        _required("turn_now", _TIME, "The time that the turn's planners were given."),
        _required("epoch", pa.int64(), "The epoch of the coordinator that committed the row."),
        _required("timestamp", _TIME, "When it happened, UTC."),
        _required("event_type", pa.string(), "`category.action`, such as token.completed."),
        *_RUN,
        _field("node_id", pa.string(), "The node of the workflow's graph."),
        _field("token_id", pa.string(), "The token."),
        _field("path_id", pa.string(), "Where the token is: root.<node>.<branch>..."),
        _field("attempt", pa.int64(), "Which execution of the token's action, from 1."),
        _field("duration_ms", pa.float64(), "How long it took, milliseconds."),
        _field("tokens", pa.int64(), "LLM tokens that the action reported."),
        _field("cost_usd", pa.float64(), "Money that the action reported, US dollars."),
        _field("message", pa.string(), "For people."),
        _field("metadata", pa.string(), "All other fields of the event, a JSON object as text."),
    ],
    metadata={"wonder.dataset": "events", "wonder.schema_version": str(SCHEMA_VERSION)},
)

TRACE_SCHEMA: Final = pa.schema(
    [
        _required("workflow_run_id", pa.string(), "The run; ids sort by the time of the start."),
        _required("sequence_number", pa.int64(), "1, 2, 3, ... without gaps, of the run's trace events."),
        _required("turn", pa.int64(), "The turn of the coordinator."),
        _required("epoch", pa.int64(), "The epoch of the coordinator."),
        _required("timestamp", _TIME, "When it happened, UTC."),
        _required("event_type", pa.string(), "`category.subcategory.action`, such as operation.tokens.created."),
        _required("category", pa.string(), "The first part of the type: decision, operation, dispatch, ..."),
        *_RUN,
        _field("node_id", pa.string(), "The node of the workflow's graph."),
        _field("token_id", pa.string(), "The token."),
        _field("duration_ms", pa.float64(), "How long it took, milliseconds."),
        _field("payload", pa.string(), "The details, JSON as text."),
    ],
    metadata={"wonder.dataset": "trace_events", "wonder.schema_version": str(SCHEMA_VERSION)},
)

RUN_COLUMNS: Final = ("workflow_run_id", *(field.name for field in _RUN))
"""The columns that are constant in a run, and come with the batch instead of the line."""

REPETITIVE_COLUMNS: Final = (*RUN_COLUMNS, "event_type", "category", "node_id")
"""What is worth a dictionary."""

KEY_COLUMNS: Final = (
    "workflow_run_id", "sequence_number", "epoch", "timestamp", "event_type", "workspace_id", "project_id", "root_run_id",
    "workflow_name", "node_id", "token_id",
)  # fmt: skip
"""What queries select by: only these carry statistics."""


def schema_of(stream: Stream) -> pa.Schema:
    """The schema of a stream's dataset."""
    return EVENT_SCHEMA if stream == "events" else TRACE_SCHEMA
