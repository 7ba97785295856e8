"""Decisions about the run as a whole, and about how it ends."""

from __future__ import annotations

from typing import Any

from wonder_ray.decisions._base import Decision
from wonder_ray.state import Ending, ErrorRecord


class BeginEnding(Decision, frozen=True, tag="BEGIN_ENDING"):
    """The run's end is decided, and children are still to end or work to be taken back before -> `workflow.ending`."""

    ending: Ending


class StartCompensation(Decision, frozen=True, tag="START_COMPENSATION"):
    """No child is left: the undos begin -> `compensation.started`."""

    undos: int


class RegisterUndo(Decision, frozen=True, tag="REGISTER_UNDO"):
    """A node that can be undone has done its work -> `compensation.registered`."""

    token_id: str
    node_id: str
    """The undo node."""
    input: Any = None


class CompleteUndo(Decision, frozen=True, tag="COMPLETE_UNDO"):
    """An undo has ended -> `compensation.completed`, `compensation.failed`; the others go on."""

    undo_id: str
    node_id: str
    error: ErrorRecord | None = None


class MarkRunWaiting(Decision, frozen=True, tag="MARK_RUN_WAITING"):
    """Nothing is under way until something comes from outside -> `workflow.waiting`."""


class MarkRunRunning(Decision, frozen=True, tag="MARK_RUN_RUNNING"):
    """What it waited for has come -> `workflow.running`."""


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
