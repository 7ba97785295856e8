"""Events about tokens, their tasks, and the context."""

from __future__ import annotations

from typing import Any

from wonder_ray.decisions import Write
from wonder_ray.state import ErrorRecord
from wonder_ray.workflow_events._base import TokenEvent, WorkflowEvent


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
    race_id: str | None = None
    holds: tuple[str, ...] = ()
    undo_of: str | None = None


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
    race_id: str | None = None
    holds: tuple[str, ...] = ()
    first: int = 0


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
    """After a token has been withdrawn, with all it held; a result that still comes is refused."""

    reason: str
    routed: bool = False
    """Whether its `on: cancelled` transitions fire."""


class TokenWaiting(TokenEvent, frozen=True, tag="token.waiting"):
    """After a token has begun to wait at a join for its siblings."""

    join_id: str
    due_us: int | None = None


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
