"""WHAT TO DO: one frozen class per decision. Planners return them, the coordinator executes them, nobody stores them.

A decision is plain data in the declarative tense; executing it produces the workflow event named in its docstring.

>>> msgspec.to_builtins(CloseGroup(group_id="g_1"))
{'type': 'CLOSE_GROUP', 'group_id': 'g_1'}
"""

from __future__ import annotations

from typing import Any

import msgspec

from wonder_ray.state import ErrorRecord, TokenStatus


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """Base of all decisions."""


class Write(msgspec.Struct, frozen=True, gc=False):
    """One assignment to the context."""

    target: str
    """Canonical target path, such as `state.pages`."""
    value: Any
    op: str = "set"


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


class UpdateTokenStatus(Decision, frozen=True, tag="UPDATE_TOKEN_STATUS"):
    """A token ends -> `token.completed`, `token.failed`, `token.timed_out`."""

    token_id: str
    status: TokenStatus
    error: ErrorRecord | None = None


class CancelTokens(Decision, frozen=True, tag="CANCEL_TOKENS"):
    """These live tokens shall end -> `token.cancelled` each; a process still running is told to stop."""

    token_ids: tuple[str, ...]
    reason: str


class MarkWaiting(Decision, frozen=True, tag="MARK_WAITING"):
    """A token waits at a join for its siblings -> `token.waiting`."""

    token_id: str
    join_id: str


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


class OpenGroup(Decision, frozen=True, tag="OPEN_GROUP"):
    """A split opens an instance of a sibling group -> `group.opened`."""

    group_id: str
    name: str
    opener_id: str
    parent_id: str | None = None
    member: bool = False
    """Whether it adds a member to its parent (false when it takes over its opener's place)."""
    tolerated: int | float | None = None


class CloseGroup(Decision, frozen=True, tag="CLOSE_GROUP"):
    """A group has nothing left to wait for: its join does not fire, or its last member has passed it -> `group.closed`."""

    group_id: str


class TolerateFailure(Decision, frozen=True, tag="TOLERATE_FAILURE"):
    """A group takes a member's failure without failing -> `group.failure_tolerated`."""

    group_id: str
    error: ErrorRecord
    token_id: str | None = None


class FailGroup(Decision, frozen=True, tag="FAIL_GROUP"):
    """A group fails, its members having been cancelled -> `group.failed`."""

    group_id: str
    error: ErrorRecord


class CancelGroup(Decision, frozen=True, tag="CANCEL_GROUP"):
    """A group is withdrawn with the branch that held it -> `group.cancelled`."""

    group_id: str
    reason: str


class MergeBranches(Decision, frozen=True, tag="MERGE_BRANCHES"):
    """The members of a join contribute to the enclosing scope -> `branches.merged`."""

    join_id: str
    node_id: str
    """The join's node."""
    scope_id: str
    writes: tuple[Write, ...]
    branches: int


class ActivateFanIn(Decision, frozen=True, tag="ACTIVATE_FAN_IN"):
    """A join fires: the tokens that waited are consumed -> `fan_in.completed`."""

    join_id: str
    node_id: str
    token_ids: tuple[str, ...] | None
    """The arrivals it consumes; None means all that wait (written short for wide joins)."""
    arrivals: int
    passing: bool = False
    """For a group: whether members are left that will pass the join, so that the group stays live until the last has."""
    round_open: bool = False
    """For a join over `incoming`: whether what comes over its other transitions still belongs to this firing."""


class AbsorbArrivals(Decision, frozen=True, tag="ABSORB_ARRIVALS"):
    """Arrivals at a join over `incoming` that has fired already in this round end there -> `fan_in.absorbed`."""

    join_id: str
    node_id: str
    token_ids: tuple[str, ...]


class ResetFanIn(Decision, frozen=True, tag="RESET_FAN_IN"):
    """A round of a join over `incoming` is over: every transition was taken, or can bring nothing more -> `fan_in.reset`."""

    join_id: str
    node_id: str


class CompleteWorkflow(Decision, frozen=True, tag="COMPLETE_WORKFLOW"):
    """Nothing is left to do -> `workflow.completed`."""

    output: Any


class FailWorkflow(Decision, frozen=True, tag="FAIL_WORKFLOW"):
    """A failure that nothing handles or tolerates -> `workflow.failed`."""

    error: ErrorRecord


class CancelWorkflow(Decision, frozen=True, tag="CANCEL_WORKFLOW"):
    """The run was asked to stop, and everything in it has -> `workflow.cancelled`."""

    reason: str


class TimeOutWorkflow(Decision, frozen=True, tag="TIME_OUT_WORKFLOW"):
    """The run took longer than its `timeout_s` -> `workflow.timed_out`."""

    error: ErrorRecord
