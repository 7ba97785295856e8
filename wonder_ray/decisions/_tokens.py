"""Decisions about tokens and the context."""

from __future__ import annotations

from typing import Any

from wonder_ray.decisions._base import Decision, Write
from wonder_ray.state import ErrorRecord, TokenStatus


class CreateToken(Decision, frozen=True, tag="CREATE_TOKEN"):
    """A token shall exist at a node -> `token.created`. Returned by routing, by joins that fire, and at the start."""

    token_id: str
    node_id: str
    path_id: str
    parent_id: str | None = None
    transition_id: str | None = None
    scope_id: str = ""
    group_id: str | None = None
    fanout_id: str | None = None
    index: int | None = None
    member: bool = False
    """Whether it adds a member to its group (false when it takes over its parent's place)."""
    counted: bool = False
    """Whether this firing counts towards the transition's `max_iterations`."""
    cause: ErrorRecord | None = None
    race_id: str | None = None
    holds: tuple[str, ...] = ()
    """The locks that it takes over from the token before it."""
    undo_of: str | None = None


class BatchCreateTokens(Decision, frozen=True, tag="BATCH_CREATE_TOKENS"):
    """One token per branch of a `foreach` or `spawn_count` shall exist -> `fan_out.started`."""

    fanout_id: str
    parent_id: str
    transition_id: str
    node_id: str
    count: int
    first_branch: int = 0
    """The branch number (within the whole split) of the first token."""
    items: list[Any] | None = None
    item_name: str = "item"
    group_id: str | None = None
    scoped: bool = False
    """Whether each branch gets a scope of its own (its group was named)."""
    members: int = 0
    """How many of the tokens add a member to the group."""
    max_concurrency: int | None = None
    counted: bool = False
    cause: ErrorRecord | None = None
    race_id: str | None = None
    holds: tuple[str, ...] = ()
    first: int = 0
    """What `index` begins with."""


class UpdateTokenStatus(Decision, frozen=True, tag="UPDATE_TOKEN_STATUS"):
    """A token ends -> `token.completed`, `token.failed`, `token.timed_out`."""

    token_id: str
    status: TokenStatus
    error: ErrorRecord | None = None


class CancelTokens(Decision, frozen=True, tag="CANCEL_TOKENS"):
    """These live tokens shall end, their tasks and child runs too -> `token.cancelled`, `subworkflow.cancel_requested`."""

    token_ids: tuple[str, ...]
    reason: str
    routed: bool = False
    """Whether their `on: cancelled` transitions fire: for cancels of nodes only."""


class MarkWaiting(Decision, frozen=True, tag="MARK_WAITING"):
    """A token waits at a join for its siblings -> `token.waiting`."""

    token_id: str
    join_id: str
    due_us: int | None = None
    """When a join over `incoming` has waited long enough for its sake."""


class MarkForDispatch(Decision, frozen=True, tag="MARK_FOR_DISPATCH"):
    """An attempt of a token's action shall be sent to an executor -> `task.dispatched`."""

    token_id: str
    attempt: int
    input: Any = None
    """The keyword arguments, at the first dispatch only; later attempts use the same."""
    first: bool = True
    due_us: int | None = None


class ScheduleRetry(Decision, frozen=True, tag="SCHEDULE_RETRY"):
    """A failed attempt shall be made again at `due_us` -> `task.retry_scheduled`."""

    token_id: str
    rule: str
    """The retry rule that is charged: its position in the node's list."""
    due_us: int
    error: ErrorRecord


class RequeueToken(Decision, frozen=True, tag="REQUEUE_TOKEN"):
    """A token whose task vanished, or whose retry is due, shall be ready again, uncharged -> `token.requeued`."""

    token_id: str
    solo: bool = False
    reason: str = ""
    error: ErrorRecord | None = None
    """What its task was lost to, where it shared that with others."""


class SetContext(Decision, frozen=True, tag="SET_CONTEXT"):
    """A value shall be written to the context -> `context.updated`. Returned for `compute` nodes."""

    token_id: str | None
    scope_id: str
    write: Write


class ApplyOutput(Decision, frozen=True, tag="APPLY_OUTPUT"):
    """A node's output mapping shall be applied to the context -> `context.output_applied`."""

    token_id: str
    scope_id: str
    writes: tuple[Write, ...]
