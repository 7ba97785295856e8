"""What a coordinator is told: the messages that planners decide about. Each is recorded in an event before it is planned.

>>> TaskSucceeded(token_id="t_1", attempt=1, epoch=1, result=3).result
3
"""

from __future__ import annotations

from typing import Any

import msgspec

from wonder_ray.state import ErrorRecord


class Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of all facts."""


class StartRun(Fact, frozen=True):
    """The run begins."""

    input: Any
    workflow_name: str
    workflow_version: str
    key: str | None = None
    labels: dict[str, str] | None = None


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


class CancelRun(Fact, frozen=True):
    """Somebody wants the run to stop."""

    reason: str
    key: str | None = None


class Alarm(Fact, frozen=True):
    """Time has passed: something may be due."""
