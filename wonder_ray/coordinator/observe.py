"""Recording facts: each becomes the events that report it, before anything is decided about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.coordinator.apply_waits import about
from wonder_ray.coordinator.restoring import restoring_events
from wonder_ray.planning import facts
from wonder_ray.planning.commands import group_of
from wonder_ray.state import TERMINAL_RUN, ErrorRecord, RunStatus, Token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState

    Events = Iterable[ev.WorkflowEvent]


def events_of_fact(state: RunState, graph: Graph, fact: facts.Fact) -> Events | None:
    """The events that record a fact about the run, or about a child of it; None when it is to have no effect."""
    status = state.run.status
    match fact:
        case facts.StartRun():
            return _started(state, graph, fact) if status is RunStatus.QUEUED else None
        case _ if status is RunStatus.QUEUED or status in TERMINAL_RUN:
            return None
        case facts.Reopened():
            return [ev.RunResumed(previous_epoch=fact.previous_epoch)]
        case facts.ChildStarted():
            return _child_started(state, fact)
        case facts.ChildEnded():
            return _child_ended(state, fact)
        case facts.CommandFact():
            return [_commanded(state, fact)]
        case _:
            return []


def _started(state: RunState, graph: Graph, fact: facts.StartRun) -> Events:
    yield ev.WorkflowStarted(
        input=fact.input,
        workflow_name=fact.workflow_name,
        workflow_version=fact.workflow_version,
        deadline_us=None if graph.timeout_us is None else state.now_us + graph.timeout_us,
        key=fact.key,
        labels=fact.labels,
        depth=fact.depth,
    )
    if fact.fork is not None:
        yield ev.RunForked(source=fact.fork.source, changes=fact.fork.changes or None)
        shift_us = 0 if fact.fork.at_us is None else state.now_us - fact.fork.at_us
        yield from restoring_events(fact.fork.state, graph, shift_us)


def _child_started(state: RunState, fact: facts.ChildStarted) -> Events | None:
    child = state.children.get(fact.child_id)
    if child is None or child.started:
        return None
    which = about(state.tokens[child.token_id])
    return [ev.SubworkflowStarted(**which, attempt=child.attempt, child_run_id=child.id, version=fact.version)]


def _child_ended(state: RunState, fact: facts.ChildEnded) -> Events | None:
    child = state.children.get(fact.child_id)
    if child is None:
        return None
    token = state.tokens[child.token_id]
    which = about(token)
    if fact.status == RunStatus.COMPLETED:
        return [
            ev.SubworkflowCompleted(
                **which, attempt=child.attempt, child_run_id=child.id, result=fact.output, duration_ms=fact.duration_ms
            )
        ]
    told = fact.error or ErrorRecord("ChildFailed", f"child run {child.id} {fact.status}", kind="child")
    error = msgspec.structs.replace(told, node_id=token.node_id)  # of the nodes of this run, that is where it failed
    return [
        ev.SubworkflowFailed(
            **which,
            attempt=child.attempt,
            child_run_id=child.id,
            status=fact.status,
            error=error,
            message=error.message,
            duration_ms=fact.duration_ms,
        )
    ]


def _commanded(state: RunState, fact: facts.CommandFact) -> ev.WorkflowEvent:
    number = state.run.sequence + 1
    match fact:
        case facts.CancelRun():
            return ev.WorkflowCancelRequested(reason=fact.reason, key=fact.key, compensate=fact.compensate)
        case facts.PauseRun():
            return ev.WorkflowPaused(reason=fact.reason, key=fact.key)
        case facts.ContinueRun():
            return ev.WorkflowResumed(key=fact.key)
        case facts.SignalRun():
            return ev.SignalReceived(signal=fact.name, signal_id=f"s_{number}", payload=fact.payload, key=fact.key)
        case facts.AnswerGate():
            return ev.GateAnswerReceived(gate=fact.gate, answer_id=f"a_{number}", answer=fact.answer, by=fact.by, key=fact.key)
        case facts.UpdateState():
            return ev.UpdateReceived(changes=fact.changes, key=fact.key)
        case _:
            return _group_commanded(state, fact)


def _group_commanded(state: RunState, fact: facts.CommandFact) -> ev.WorkflowEvent:
    match fact:
        case facts.CompleteGroup():
            group = group_of(state, fact.group)[0]
            return ev.GroupCompletedEarly(group_id=group.id, reason=fact.reason or "it was asked for", key=fact.key)
        case facts.SealGroup():
            return ev.GroupSealed(group_id=group_of(state, fact.group)[0].id, key=fact.key)
        case facts.AddMembers():
            return ev.GroupMembersAdded(group_id=group_of(state, fact.group)[0].id, count=len(fact.items), key=fact.key)
        case _:
            msg = f"no event records {type(fact).__name__}"
            raise TypeError(msg)


def task_event(token: Token, fact: facts.TaskFact) -> ev.WorkflowEvent | None:
    """The event that records a fact about an open attempt; None where what follows from it tells all."""
    which = about(token)
    match fact:
        case facts.TaskSucceeded():
            return ev.TaskCompleted(
                **which,
                attempt=fact.attempt,
                result=fact.result,
                duration_ms=fact.duration_ms,
                tokens=fact.tokens,
                cost_usd=fact.cost_usd,
            )
        case facts.TaskErrored():
            return ev.TaskFailed(
                **which,
                attempt=fact.attempt,
                error=fact.error,
                message=fact.error.message,
                duration_ms=fact.duration_ms,
                tokens=fact.tokens,
                cost_usd=fact.cost_usd,
            )
        case facts.TaskLost() if not fact.batched:
            return ev.TaskFailed(**which, attempt=fact.attempt, error=fact.error, message=fact.error.message)
        case _:
            return None
