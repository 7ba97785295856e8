"""What a coordinator is told: the messages that planners decide about. Each is recorded in an event before it is planned.

>>> TaskSucceeded(token_id="t_1", attempt=1, epoch=1, result=3).result
3
"""

from __future__ import annotations

from typing import Any

import msgspec

from wonder_ray.state import ErrorRecord, Lineage


class Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of all facts."""


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """The state that a run begins from instead of its start nodes."""

    source: Lineage
    state: Any
    """The folded state (a `RunState`) of the other run."""
    at_us: int | None = None
    """The time of the turn that it is the state after: what waits has as long from now on as it had then."""
    changes: dict[str, Any] = {}
    """Target -> value: what is set anew."""


class StartRun(Fact, frozen=True):
    """The run begins."""

    input: Any
    workflow_name: str
    workflow_version: str
    key: str | None = None
    labels: dict[str, str] | None = None
    depth: int = 0
    """How many runs are above it."""
    fork: Fork | None = None


class Reopened(Fact, frozen=True):
    """A new coordinator has opened the run; the tasks of earlier epochs are void."""

    previous_epoch: int


class TaskFact(Fact, frozen=True):
    """Something about one attempt; believed only if exactly that (token, attempt, epoch) is recorded as open."""

    token_id: str
    attempt: int
    epoch: int


class TaskSucceeded(TaskFact, frozen=True):
    """An executor returned a result."""

    result: Any
    duration_ms: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None


class TaskErrored(TaskFact, frozen=True):
    """An attempt failed."""

    error: ErrorRecord
    duration_ms: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None


class TaskLost(TaskFact, frozen=True):
    """The task that ran an attempt vanished with its worker or node, and nothing is known of its work."""

    error: ErrorRecord
    batched: bool = False
    """Whether other tokens shared the task: then nobody is charged, and each is run again alone."""


class ChildStarted(Fact, frozen=True):
    """A child run exists."""

    child_id: str
    version: str | None = None


class ChildEnded(Fact, frozen=True):
    """A child run has ended, or could not be started (`refused`)."""

    child_id: str
    status: str
    output: Any = None
    error: ErrorRecord | None = None
    duration_ms: float | None = None


class CommandFact(Fact, frozen=True):
    """Base of what somebody asks of a run. It is refused with a `CommandRefusedError`, or accepted and recorded."""

    key: str | None = None


class CancelRun(CommandFact, frozen=True, kw_only=True):
    """Somebody wants the run to stop."""

    reason: str
    compensate: bool = False
    """Whether the work of completed nodes is to be taken back."""


class PauseRun(CommandFact, frozen=True, kw_only=True):
    """Nothing new is to be started."""

    reason: str = ""


class ContinueRun(CommandFact, frozen=True, kw_only=True):
    """A paused run is to go on."""


class SignalRun(CommandFact, frozen=True, kw_only=True):
    """A signal for whoever waits for it in the run."""

    name: str
    payload: Any = None


class AnswerGate(CommandFact, frozen=True, kw_only=True):
    """An answer to a gate."""

    gate: str
    """The gate's node; or its token, where several are open there."""
    answer: Any = None
    by: str | None = None


class UpdateState(CommandFact, frozen=True, kw_only=True):
    """A change of the run's state."""

    changes: dict[str, Any]
    """Target (`state.limit`) -> value."""


class CompleteGroup(CommandFact, frozen=True, kw_only=True):
    """A group's join is to fire with what there is."""

    group: str
    """Its name; or its id, where several of the name are open."""
    reason: str = ""


class SealGroup(CommandFact, frozen=True, kw_only=True):
    """An open group is to take no more members."""

    group: str


class AddMembers(CommandFact, frozen=True, kw_only=True):
    """An open group is to get more members."""

    group: str
    items: list[Any]
    """One member per item; where the group was opened by a `foreach`, that is the member's item."""


class Alarm(Fact, frozen=True):
    """Time has passed: something may be due."""
