"""WHAT HAPPENED: one frozen class per workflow event, and its row in the event stream.

An event is written in the transaction of the change it reports. The fields that are columns of the event dataset
(`COLUMNS`) stand there; all others are the row's `metadata`, a JSON object. Folding the rows rebuilds the run's state.

>>> line = encode_line(TokenCompleted(token_id="t_1", node_id="a", path_id="root"), Stamp(7, 2, 1_000, 1))
>>> decode_event(msgspec.json.decode(line))
TokenCompleted(token_id='t_1', node_id='a', path_id='root')
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from wonder_ray.decisions import Write
from wonder_ray.errors import HistoryConflictError
from wonder_ray.state import ErrorRecord

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


class WorkflowStarted(WorkflowEvent, frozen=True, tag="workflow.started"):
    """After a run's first transaction has committed."""

    input: Any
    workflow_name: str
    workflow_version: str
    deadline_us: int | None = None
    key: str | None = None
    labels: dict[str, str] | None = None


class WorkflowCompleted(WorkflowEvent, frozen=True, tag="workflow.completed"):
    """After the last token has ended and the output is known; terminal."""

    output: Any
    duration_ms: float | None = None


class WorkflowFailed(WorkflowEvent, frozen=True, tag="workflow.failed"):
    """After a failure that nothing handled, and everything else has been cancelled; terminal."""

    error: ErrorRecord
    message: str | None = None
    duration_ms: float | None = None


class WorkflowTimedOut(WorkflowEvent, frozen=True, tag="workflow.timed_out"):
    """After the run's own timeout, and everything in it has been cancelled; terminal."""

    error: ErrorRecord
    message: str | None = None
    duration_ms: float | None = None


class WorkflowCancelRequested(WorkflowEvent, frozen=True, tag="workflow.cancel_requested"):
    """After a cancel has been made durable; its caller hears yes."""

    reason: str
    key: str | None = None


class WorkflowCancelled(WorkflowEvent, frozen=True, tag="workflow.cancelled"):
    """After a cancelled run has nothing live left; terminal."""

    reason: str
    duration_ms: float | None = None


class RunResumed(WorkflowEvent, frozen=True, tag="run.resumed"):
    """After a new coordinator has opened the run's file: tasks of earlier epochs are void."""

    previous_epoch: int


class TokenCreated(TokenEvent, frozen=True, tag="token.created"):
    """After a token exists."""

    parent_id: str | None = None
    transition_id: str | None = None
    scope_id: str = ""
    group_id: str | None = None
    fanout_id: str | None = None
    index: int | None = None
    member: bool = False
    counted: bool = False
    cause: ErrorRecord | None = None


class FanOutStarted(WorkflowEvent, frozen=True, tag="fan_out.started"):
    """After the tokens of a fan-out exist; their ids, paths and scopes are derived from these fields."""

    token_id: str
    """The token whose transition fanned out."""
    node_id: str
    """The node that the branches begin at."""
    path_id: str
    fanout_id: str
    transition_id: str
    count: int
    first_branch: int = 0
    items: list[Any] | None = None
    item_name: str = "item"
    group_id: str | None = None
    scoped: bool = False
    members: int = 0
    max_concurrency: int | None = None
    counted: bool = False
    cause: ErrorRecord | None = None


class TokenCompleted(TokenEvent, frozen=True, tag="token.completed"):
    """After a token has ended well."""


class TokenFailed(TokenEvent, frozen=True, tag="token.failed"):
    """After a token has ended in a failure and no attempt is left."""

    error: ErrorRecord
    message: str | None = None
    attempt: int | None = None


class TokenTimedOut(TokenEvent, frozen=True, tag="token.timed_out"):
    """After a token's last allowed attempt ran out of time."""

    error: ErrorRecord
    message: str | None = None
    attempt: int | None = None


class TokenCancelled(TokenEvent, frozen=True, tag="token.cancelled"):
    """After a token has been withdrawn; a result that still comes is refused."""

    reason: str


class TokenWaiting(TokenEvent, frozen=True, tag="token.waiting"):
    """After a token has begun to wait at a join for its siblings."""

    join_id: str


class TokenRequeued(TokenEvent, frozen=True, tag="token.requeued"):
    """After a token has become ready again without being charged: its retry is due, or its task vanished."""

    reason: str
    solo: bool = False
    error: ErrorRecord | None = None
    """What the task that it shared with others was lost to: the fact, which has no event of its own."""


class TaskDispatched(TokenEvent, frozen=True, tag="task.dispatched"):
    """After an attempt is recorded as open; only its result is accepted."""

    attempt: int
    input: Any = None
    first: bool = True
    due_us: int | None = None


class TaskCompleted(TokenEvent, frozen=True, tag="task.completed"):
    """After an executor's result has been accepted."""

    attempt: int
    result: Any = None
    duration_ms: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None


class TaskFailed(TokenEvent, frozen=True, tag="task.failed"):
    """After an attempt has failed; a retry may follow."""

    attempt: int
    error: ErrorRecord
    message: str | None = None
    duration_ms: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None


class TaskRetryScheduled(TokenEvent, frozen=True, tag="task.retry_scheduled"):
    """After a failed attempt has been given another one, due at `due_us`."""

    attempt: int
    rule: str
    due_us: int
    error: ErrorRecord


class NodeCompleted(TokenEvent, frozen=True, tag="node_completed"):
    """After a node's work is done (kept for readers of the legacy name)."""

    attempt: int | None = None
    duration_ms: float | None = None


class NodeFailed(TokenEvent, frozen=True, tag="node_failed"):
    """After a node's work has failed for good (kept for readers of the legacy name)."""

    error: ErrorRecord
    attempt: int | None = None
    message: str | None = None


class ContextUpdated(WorkflowEvent, frozen=True, tag="context.updated"):
    """After one value has been written to the context."""

    scope_id: str
    write: Write
    token_id: str | None = None
    node_id: str | None = None


class ContextOutputApplied(TokenEvent, frozen=True, tag="context.output_applied"):
    """After a node's output mapping has been written to the context."""

    scope_id: str
    writes: tuple[Write, ...]


class GroupOpened(WorkflowEvent, frozen=True, tag="group.opened"):
    """After a split has opened a sibling group; its members follow as tokens."""

    group_id: str
    name: str
    token_id: str
    """The opener."""
    node_id: str
    parent_id: str | None = None
    member: bool = False
    tolerated: int | float | None = None


class GroupClosed(WorkflowEvent, frozen=True, tag="group.closed"):
    """After the last member has ended without its join having anything to fire for, or has passed the join."""

    group_id: str


class GroupFailureTolerated(WorkflowEvent, frozen=True, tag="group.failure_tolerated"):
    """After a group has taken a failure that does not fail it."""

    group_id: str
    error: ErrorRecord
    token_id: str | None = None
    message: str | None = None


class GroupFailed(WorkflowEvent, frozen=True, tag="group.failed"):
    """After a group has failed and its members have been cancelled."""

    group_id: str
    error: ErrorRecord
    message: str | None = None


class GroupCancelled(WorkflowEvent, frozen=True, tag="group.cancelled"):
    """After a group has been withdrawn with the branch that held it."""

    group_id: str
    reason: str


class BranchesMerged(WorkflowEvent, frozen=True, tag="branches.merged"):
    """After the members of a join have contributed to the enclosing scope."""

    join_id: str
    node_id: str
    scope_id: str
    writes: tuple[Write, ...]
    branches: int


class FanInCompleted(WorkflowEvent, frozen=True, tag="fan_in.completed"):
    """After a join has fired and consumed the tokens that waited at it."""

    join_id: str
    node_id: str
    arrivals: int
    token_ids: tuple[str, ...] | None = None
    """None means all that waited."""
    passing: bool = False
    round_open: bool = False


class FanInAbsorbed(WorkflowEvent, frozen=True, tag="fan_in.absorbed"):
    """After arrivals at a join over `incoming` have ended there, because it had fired without them."""

    join_id: str
    node_id: str
    token_ids: tuple[str, ...]


class FanInReset(WorkflowEvent, frozen=True, tag="fan_in.reset"):
    """After a round of a join over `incoming` is over; what comes next belongs to a new one."""

    join_id: str
    node_id: str


def _leaves(base: type[WorkflowEvent]) -> list[type[WorkflowEvent]]:
    found: list[type[WorkflowEvent]] = []
    for cls in base.__subclasses__():
        found.extend(_leaves(cls) if cls is TokenEvent else [cls])
    return found


def _tag(cls: type[WorkflowEvent]) -> str:
    return str(cls.__struct_config__.tag)


EVENT_TYPES: Final = MappingProxyType({_tag(cls): cls for cls in _leaves(WorkflowEvent)})
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
    return msgspec.convert(fields, cls)
