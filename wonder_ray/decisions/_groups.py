"""Decisions about sibling groups and joins."""

from __future__ import annotations

from wonder_ray.decisions._base import Decision, Write
from wonder_ray.state import ErrorRecord


class OpenGroup(Decision, frozen=True, tag="OPEN_GROUP"):
    """A split opens an instance of a sibling group -> `group.opened`."""

    group_id: str
    name: str
    opener_id: str
    parent_id: str | None = None
    member: bool = False
    """Whether it adds a member to its parent (false when it takes over its opener's place)."""
    tolerated: int | float | None = None
    open: bool = False
    """Whether members can be added from outside."""
    due_us: int | None = None
    """When its join has waited long enough."""


class CloseGroup(Decision, frozen=True, tag="CLOSE_GROUP"):
    """A group has nothing left to wait for: its join does not fire, or its last member has passed it -> `group.closed`."""

    group_id: str


class SealGroup(Decision, frozen=True, tag="SEAL_GROUP"):
    """An open group shall take no more members from outside -> `group.sealed`."""

    group_id: str


class CompleteGroup(Decision, frozen=True, tag="COMPLETE_GROUP"):
    """A group's join shall fire with what there is, the rest being withdrawn -> `group.completed_early`."""

    group_id: str
    reason: str


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
