"""Events about the run as a whole, and about how it ends."""

from __future__ import annotations

from typing import Any

from wonder_ray.state import Ending, ErrorRecord, Fanout, Group, Kept, Lineage, Token, Undo
from wonder_ray.workflow_events._base import TokenEvent, WorkflowEvent


class WorkflowStarted(WorkflowEvent, frozen=True, tag="workflow.started"):
    """After a run's first transaction has committed."""

    input: Any
    workflow_name: str
    workflow_version: str
    deadline_us: int | None = None
    key: str | None = None
    labels: dict[str, str] | None = None
    depth: int = 0
    """How many runs are above it."""


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
    compensate: bool = False
    """Whether the work of completed nodes is to be taken back."""


class WorkflowPaused(WorkflowEvent, frozen=True, tag="workflow.paused"):
    """After a pause has been made durable: nothing new is started."""

    reason: str
    key: str | None = None


class WorkflowResumed(WorkflowEvent, frozen=True, tag="workflow.resumed"):
    """After a paused run has been let go on."""

    key: str | None = None


class WorkflowWaiting(WorkflowEvent, frozen=True, tag="workflow.waiting"):
    """After the last thing under way has ended; it goes on when an answer, a signal, a time or a child comes."""


class WorkflowRunning(WorkflowEvent, frozen=True, tag="workflow.running"):
    """After something has come that a waiting run waited for."""


class WorkflowEnding(WorkflowEvent, frozen=True, tag="workflow.ending"):
    """After the run's end has been decided, with children still to end, or work still to be taken back, before it."""

    ending: Ending


class UpdateReceived(WorkflowEvent, frozen=True, tag="update.received"):
    """After a change of the state from outside has been accepted; `context.updated` follows for each value."""

    changes: dict[str, Any]
    """Target -> value."""
    key: str | None = None


class CompensationRegistered(TokenEvent, frozen=True, tag="compensation.registered"):
    """After a node that can be undone has done its work."""

    undo_node_id: str
    input: Any = None


class CompensationStarted(WorkflowEvent, frozen=True, tag="compensation.started"):
    """After everything else has ended, before the first undo."""

    undos: int


class CompensationCompleted(TokenEvent, frozen=True, tag="compensation.completed"):
    """After an undo has done its work; `token_id` is the token that was undone."""


class CompensationFailed(TokenEvent, frozen=True, tag="compensation.failed"):
    """After an undo has failed for good; the others go on."""

    error: ErrorRecord
    message: str | None = None


class RunForked(WorkflowEvent, frozen=True, tag="run.forked"):
    """After a run has begun from the state of another one; `run.restored` follows with that state."""

    source: Lineage
    changes: dict[str, Any] | None = None
    """Target -> value: what was set anew."""


class RunRestored(WorkflowEvent, frozen=True, tag="run.restored"):
    """After a part of the state that a forked run begins with is there."""

    token_records: tuple[Token, ...] = ()
    group_records: tuple[Group, ...] = ()
    fanout_records: tuple[Fanout, ...] = ()
    contexts: dict[str, dict[str, dict[str, Any]]] | None = None
    iterations: tuple[tuple[str, str, int], ...] = ()
    """(scope, transition, firings)."""
    rounds: dict[str, tuple[str, ...]] | None = None
    kept: tuple[Kept, ...] = ()
    undos: tuple[Undo, ...] = ()
    last: bool = False
    """Whether the state is whole with it."""


class WorkflowCancelled(WorkflowEvent, frozen=True, tag="workflow.cancelled"):
    """After a cancelled run has nothing live left; terminal."""

    reason: str
    duration_ms: float | None = None


class RunResumed(WorkflowEvent, frozen=True, tag="run.resumed"):
    """After a new coordinator has opened the run's file: tasks of earlier epochs are void."""

    previous_epoch: int
