"""What a coordinator was told in a recorded turn: the facts, in order.

Each fact that had an effect stands in an event of its own, and what followed from it stands behind that event. So a machine is
told a fact, and when it asks for the next, the recorded event that comes next says what that was. An alarm has no event: it is
what happened where no fact explains the next event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wonder_ray import workflow_events as ev
from wonder_ray.fold import evolve, new_state
from wonder_ray.planning import facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wonder_ray.fold import Folding
    from wonder_ray.run_state import RunState

WAITED: Final = "join over "
"""What the reason begins with where a group was completed because its join has waited long enough."""


class Telling:
    """One recorded turn, as facts."""

    def __init__(self, events: Sequence[ev.WorkflowEvent], now_us: int) -> None:
        self._events = events
        self._now_us = now_us

    def fact_at(self, state: RunState, at: int) -> facts.Fact | None:
        """The fact that the event at a place records; None when it follows from another, or from the passing of time."""
        event = self._events[at]
        match event:
            case ev.WorkflowStarted():
                return self._started(event, at)
            case ev.RunResumed():
                return facts.Reopened(previous_epoch=event.previous_epoch)
            case ev.TaskCompleted() | ev.TaskFailed() | ev.TokenRequeued():
                return self._of_task(state, event)
            case ev.SubworkflowStarted() | ev.SubworkflowCompleted() | ev.SubworkflowFailed():
                return _of_child(event)
            case ev.GroupCompletedEarly() | ev.GroupSealed() | ev.GroupMembersAdded():
                return self._of_group(state, event, at)
            case _:
                return _command(event)

    def _started(self, event: ev.WorkflowStarted, at: int) -> facts.Fact:
        forked = self._events[at + 1] if at + 1 < len(self._events) else None
        fork = None
        if isinstance(forked, ev.RunForked):
            fork = facts.Fork(source=forked.source, state=self._restored(), changes=forked.changes or {})
        return facts.StartRun(
            input=event.input,
            workflow_name=event.workflow_name,
            workflow_version=event.workflow_version,
            key=event.key,
            labels=event.labels,
            depth=event.depth,
            fork=fork,
        )

    def _restored(self) -> Folding:
        """The state that a fork has begun with."""
        state = new_state("")
        for event in self._events:
            if isinstance(event, ev.RunRestored):
                evolve(state, event, ev.Stamp(state.run.sequence + 1, 1, self._now_us, 1))
        return state

    def _of_task(self, state: RunState, event: ev.TaskCompleted | ev.TaskFailed | ev.TokenRequeued) -> facts.Fact | None:
        token = state.tokens.get(event.token_id)
        epoch = 0 if token is None else token.epoch
        if isinstance(event, ev.TokenRequeued):
            if event.error is None or token is None:
                return None
            return facts.TaskLost(token_id=token.id, attempt=token.attempt, epoch=epoch, error=event.error, batched=True)
        told: dict[str, Any] = {
            "token_id": event.token_id,
            "attempt": event.attempt,
            "epoch": epoch,
            "duration_ms": event.duration_ms,
            "tokens": event.tokens,
            "cost_usd": event.cost_usd,
        }
        if isinstance(event, ev.TaskCompleted):
            return facts.TaskSucceeded(**told, result=event.result)
        is_due = token is not None and token.due_us is not None and token.due_us <= self._now_us
        if event.error.kind == "timeout" and is_due:
            return None  # nobody told it: the alarm found the attempt overdue
        return facts.TaskErrored(**told, error=event.error)

    def _of_group(
        self, state: RunState, event: ev.GroupCompletedEarly | ev.GroupSealed | ev.GroupMembersAdded, at: int
    ) -> facts.Fact | None:
        if isinstance(event, ev.GroupSealed):
            return facts.SealGroup(group=event.group_id, key=event.key)
        if isinstance(event, ev.GroupMembersAdded):
            return facts.AddMembers(group=event.group_id, items=self._items(event.count, at), key=event.key)
        group = state.groups.get(event.group_id)
        is_due = group is not None and group.due_us is not None and group.due_us <= self._now_us
        if is_due and event.reason.startswith(WAITED):
            return None
        return facts.CompleteGroup(group=event.group_id, reason=event.reason, key=event.key)

    def _items(self, count: int, at: int) -> list[Any]:
        """The items of added members: in the fan-out that follows, where it is one over items."""
        following = self._events[at + 1] if at + 1 < len(self._events) else None
        items = following.items if isinstance(following, ev.FanOutStarted) else None
        return [None] * count if items is None else items


def _of_child(event: ev.SubworkflowStarted | ev.SubworkflowCompleted | ev.SubworkflowFailed) -> facts.Fact:
    child_id = event.child_run_id
    match event:
        case ev.SubworkflowStarted():
            return facts.ChildStarted(child_id=child_id, version=event.version)
        case ev.SubworkflowCompleted():
            return facts.ChildEnded(child_id=child_id, status="completed", output=event.result, duration_ms=event.duration_ms)
        case _:
            return facts.ChildEnded(child_id=child_id, status=event.status, error=event.error, duration_ms=event.duration_ms)


def _command(event: ev.WorkflowEvent) -> facts.Fact | None:
    match event:
        case ev.WorkflowCancelRequested():
            return facts.CancelRun(reason=event.reason, key=event.key, compensate=event.compensate)
        case ev.WorkflowPaused():
            return facts.PauseRun(reason=event.reason, key=event.key)
        case ev.WorkflowResumed():
            return facts.ContinueRun(key=event.key)
        case ev.SignalReceived():
            return facts.SignalRun(name=event.signal, payload=event.payload, key=event.key)
        case ev.GateAnswerReceived():
            return facts.AnswerGate(gate=event.gate, answer=event.answer, by=event.by, key=event.key)
        case ev.UpdateReceived():
            return facts.UpdateState(changes=event.changes, key=event.key)
        case _:
            return None
