"""Events about sibling groups and joins."""

from __future__ import annotations

from wonder_ray.decisions import Write
from wonder_ray.state import ErrorRecord
from wonder_ray.workflow_events._base import WorkflowEvent


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
    open: bool = False
    due_us: int | None = None


class GroupClosed(WorkflowEvent, frozen=True, tag="group.closed"):
    """After the last member has ended without its join having anything to fire for, or has passed the join."""

    group_id: str


class GroupMembersAdded(WorkflowEvent, frozen=True, tag="group.members_added"):
    """After members were added to an open group from outside; their tokens follow."""

    group_id: str
    count: int
    key: str | None = None


class GroupSealed(WorkflowEvent, frozen=True, tag="group.sealed"):
    """After an open group has been closed: no more members can be added from outside."""

    group_id: str
    key: str | None = None


class GroupCompletedEarly(WorkflowEvent, frozen=True, tag="group.completed_early"):
    """After a group was said to be complete: the rest of it is withdrawn, and its join fires with what there is."""

    group_id: str
    reason: str
    key: str | None = None


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
