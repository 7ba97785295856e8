"""What a coordinator was told in a recorded turn: the facts, in order, and how much it could dispatch.

Each fact that had an effect stands in an event of its own, and what followed from it stands behind that event. So a machine is
told a fact, and when it asks for the next, the recorded event that comes next says what that was. An alarm has no event: it is
what happened where no fact explains the next event. How many tokens could be dispatched is an outside fact, too; it shows in
what was dispatched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray import workflow_events as ev
from wonder_ray.planning import facts
from wonder_ray.planning.dispatching import INPUT_MAPPING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wonder_ray.run_state import RunState


def fact_of(state: RunState, event: ev.WorkflowEvent, now_us: int) -> facts.Fact | None:
    """The fact that an event records; None when it follows from another, or from the passing of time."""
    match event:
        case ev.WorkflowStarted():
            return facts.StartRun(
                input=event.input,
                workflow_name=event.workflow_name,
                workflow_version=event.workflow_version,
                key=event.key,
                labels=event.labels,
            )
        case ev.RunResumed():
            return facts.Reopened(previous_epoch=event.previous_epoch)
        case ev.WorkflowCancelRequested():
            return facts.CancelRun(reason=event.reason, key=event.key)
        case ev.TaskCompleted() | ev.TaskFailed() | ev.TokenRequeued():
            return _of_task(state, event, now_us)
        case _:
            return None


def _of_task(state: RunState, event: ev.TaskCompleted | ev.TaskFailed | ev.TokenRequeued, now_us: int) -> facts.TaskFact | None:
    token = state.tokens.get(event.token_id)
    epoch = 0 if token is None else token.epoch
    if isinstance(event, ev.TokenRequeued):
        if event.error is None or token is None:
            return None
        return facts.TaskLost(token_id=token.id, attempt=token.attempt, epoch=epoch, error=event.error, batched=True)
    if isinstance(event, ev.TaskCompleted):
        return facts.TaskSucceeded(
            token_id=event.token_id,
            attempt=event.attempt,
            epoch=epoch,
            result=event.result,
            duration_ms=event.duration_ms,
            tokens=event.tokens,
            cost_usd=event.cost_usd,
        )
    if event.error.kind == "timeout" and token is not None and token.due_us is not None and token.due_us <= now_us:
        return None  # nobody told it: the alarm found the attempt overdue
    return facts.TaskErrored(
        token_id=event.token_id,
        attempt=event.attempt,
        epoch=epoch,
        error=event.error,
        duration_ms=event.duration_ms,
        tokens=event.tokens,
        cost_usd=event.cost_usd,
    )


def dispatched_at(events: Sequence[ev.WorkflowEvent], at: int) -> tuple[str, int] | None:
    """Whose turn it was to be dispatched at a place of a turn's events, and the place behind; None where nobody's was.

    A ready token is dispatched, or fails because its input cannot be rendered.
    """
    event = events[at] if at < len(events) else None
    if isinstance(event, ev.TaskDispatched):
        return event.node_id, at + 1
    if isinstance(event, ev.NodeFailed) and event.error.kind == "expression" and event.error.message.startswith(INPUT_MAPPING):
        return event.node_id, at + 2  # its token.failed stands behind it
    return None
