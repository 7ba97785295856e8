"""Executing decisions: each becomes the events that report it, by one short handler per kind.

A handler reads the state as it is at its turn in the list, so that a decision about something that an earlier one has
ended (a token cancelled twice over) does nothing.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from wonder_ray import decisions as dec
from wonder_ray import workflow_events as ev
from wonder_ray.coordinator.apply_waits import WAIT_HANDLERS, about
from wonder_ray.state import HELD_OPEN, TERMINAL_TOKEN, GroupStatus, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wonder_ray.run_state import RunState

    Handler = Callable[[RunState, Any], Iterable[ev.WorkflowEvent]]


def events_of(state: RunState, decision: dec.Decision) -> Iterable[ev.WorkflowEvent]:
    """The events that executing one decision yields, to be applied in order.

    >>> from wonder_ray.fold import new_state
    >>> [ev.event_type(e) for e in events_of(new_state("run_x"), dec.CompleteWorkflow(output={}))]
    ['workflow.completed']
    """
    return _HANDLERS[type(decision)](state, decision)


def _create_token(_state: RunState, d: dec.CreateToken) -> Iterable[ev.WorkflowEvent]:
    return [
        ev.TokenCreated(
            token_id=d.token_id,
            node_id=d.node_id,
            path_id=d.path_id,
            parent_id=d.parent_id,
            transition_id=d.transition_id,
            scope_id=d.scope_id,
            group_id=d.group_id,
            fanout_id=d.fanout_id,
            index=d.index,
            member=d.member,
            counted=d.counted,
            cause=d.cause,
            race_id=d.race_id,
            holds=d.holds,
            undo_of=d.undo_of,
        )
    ]


def _batch_create_tokens(state: RunState, d: dec.BatchCreateTokens) -> Iterable[ev.WorkflowEvent]:
    return [
        ev.FanOutStarted(
            token_id=d.parent_id,
            node_id=d.node_id,
            path_id=state.tokens[d.parent_id].path_id,
            fanout_id=d.fanout_id,
            transition_id=d.transition_id,
            count=d.count,
            first_branch=d.first_branch,
            items=d.items,
            item_name=d.item_name,
            group_id=d.group_id,
            scoped=d.scoped,
            members=d.members,
            max_concurrency=d.max_concurrency,
            counted=d.counted,
            cause=d.cause,
            race_id=d.race_id,
            holds=d.holds,
            first=d.first,
        )
    ]


def _update_token_status(state: RunState, d: dec.UpdateTokenStatus) -> Iterable[ev.WorkflowEvent]:
    token = state.tokens[d.token_id]
    which = about(token)
    attempt = token.attempt or None
    if d.status is TokenStatus.COMPLETED:
        yield ev.NodeCompleted(**which, attempt=attempt)
        yield ev.TokenCompleted(**which)
    elif d.error is not None and d.status in {TokenStatus.FAILED, TokenStatus.TIMED_OUT}:
        failed = ev.TokenTimedOut if d.status is TokenStatus.TIMED_OUT else ev.TokenFailed
        yield ev.NodeFailed(**which, error=d.error, attempt=attempt, message=d.error.message)
        yield failed(**which, error=d.error, attempt=attempt, message=d.error.message)


def _cancel_tokens(state: RunState, d: dec.CancelTokens) -> Iterable[ev.WorkflowEvent]:
    for token_id in d.token_ids:
        token = state.tokens[token_id]
        if token.status in TERMINAL_TOKEN:
            continue
        child = state.child_of(token)
        if child is not None and child.cancelled is None:
            yield ev.SubworkflowCancelRequested(**about(token), attempt=child.attempt, child_run_id=child.id, reason=d.reason)
        yield ev.TokenCancelled(**about(token), reason=d.reason, routed=d.routed)


def _mark_waiting(state: RunState, d: dec.MarkWaiting) -> Iterable[ev.WorkflowEvent]:
    return [ev.TokenWaiting(**about(state.tokens[d.token_id]), join_id=d.join_id, due_us=d.due_us)]


def _mark_for_dispatch(state: RunState, d: dec.MarkForDispatch) -> Iterable[ev.WorkflowEvent]:
    token = state.tokens[d.token_id]
    return [
        ev.TaskDispatched(
            token_id=token.id,
            node_id=token.node_id,
            path_id=token.path_id,
            attempt=d.attempt,
            input=d.input,
            first=d.first,
            due_us=d.due_us,
        )
    ]


def _schedule_retry(state: RunState, d: dec.ScheduleRetry) -> Iterable[ev.WorkflowEvent]:
    token = state.tokens[d.token_id]
    return [ev.TaskRetryScheduled(**about(token), attempt=token.attempt, rule=d.rule, due_us=d.due_us, error=d.error)]


def _requeue_token(state: RunState, d: dec.RequeueToken) -> Iterable[ev.WorkflowEvent]:
    return [ev.TokenRequeued(**about(state.tokens[d.token_id]), reason=d.reason, solo=d.solo, error=d.error)]


def _set_context(state: RunState, d: dec.SetContext) -> Iterable[ev.WorkflowEvent]:
    node_id = None if d.token_id is None else state.tokens[d.token_id].node_id
    return [ev.ContextUpdated(scope_id=d.scope_id, write=d.write, token_id=d.token_id, node_id=node_id)]


def _apply_output(state: RunState, d: dec.ApplyOutput) -> Iterable[ev.WorkflowEvent]:
    return [ev.ContextOutputApplied(**about(state.tokens[d.token_id]), scope_id=d.scope_id, writes=d.writes)]


def _open_group(state: RunState, d: dec.OpenGroup) -> Iterable[ev.WorkflowEvent]:
    return [
        ev.GroupOpened(
            group_id=d.group_id,
            name=d.name,
            token_id=d.opener_id,
            node_id=state.tokens[d.opener_id].node_id,
            parent_id=d.parent_id,
            member=d.member,
            tolerated=d.tolerated,
            open=d.open,
            due_us=d.due_us,
        )
    ]


def _seal_group(state: RunState, d: dec.SealGroup) -> Iterable[ev.WorkflowEvent]:
    if state.groups[d.group_id].open:
        yield ev.GroupSealed(group_id=d.group_id)


def _complete_group(state: RunState, d: dec.CompleteGroup) -> Iterable[ev.WorkflowEvent]:
    if state.groups[d.group_id].status is GroupStatus.OPEN:
        yield ev.GroupCompletedEarly(group_id=d.group_id, reason=d.reason)


def _close_group(_state: RunState, d: dec.CloseGroup) -> Iterable[ev.WorkflowEvent]:
    return [ev.GroupClosed(group_id=d.group_id)]


def _tolerate_failure(_state: RunState, d: dec.TolerateFailure) -> Iterable[ev.WorkflowEvent]:
    return [ev.GroupFailureTolerated(group_id=d.group_id, error=d.error, token_id=d.token_id, message=d.error.message)]


def _fail_group(_state: RunState, d: dec.FailGroup) -> Iterable[ev.WorkflowEvent]:
    return [ev.GroupFailed(group_id=d.group_id, error=d.error, message=d.error.message)]


def _cancel_group(state: RunState, d: dec.CancelGroup) -> Iterable[ev.WorkflowEvent]:
    if state.groups[d.group_id].status in HELD_OPEN:
        yield ev.GroupCancelled(group_id=d.group_id, reason=d.reason)


def _merge_branches(_state: RunState, d: dec.MergeBranches) -> Iterable[ev.WorkflowEvent]:
    return [ev.BranchesMerged(join_id=d.join_id, node_id=d.node_id, scope_id=d.scope_id, writes=d.writes, branches=d.branches)]


def _activate_fan_in(_state: RunState, d: dec.ActivateFanIn) -> Iterable[ev.WorkflowEvent]:
    return [
        ev.FanInCompleted(
            join_id=d.join_id,
            node_id=d.node_id,
            arrivals=d.arrivals,
            token_ids=d.token_ids,
            passing=d.passing,
            round_open=d.round_open,
        )
    ]


def _absorb_arrivals(_state: RunState, d: dec.AbsorbArrivals) -> Iterable[ev.WorkflowEvent]:
    return [ev.FanInAbsorbed(join_id=d.join_id, node_id=d.node_id, token_ids=d.token_ids)]


def _reset_fan_in(_state: RunState, d: dec.ResetFanIn) -> Iterable[ev.WorkflowEvent]:
    return [ev.FanInReset(join_id=d.join_id, node_id=d.node_id)]


_HANDLERS: Final[MappingProxyType[type[dec.Decision], Handler]] = MappingProxyType(
    {
        **WAIT_HANDLERS,
        dec.CreateToken: _create_token,
        dec.BatchCreateTokens: _batch_create_tokens,
        dec.UpdateTokenStatus: _update_token_status,
        dec.CancelTokens: _cancel_tokens,
        dec.MarkWaiting: _mark_waiting,
        dec.MarkForDispatch: _mark_for_dispatch,
        dec.ScheduleRetry: _schedule_retry,
        dec.RequeueToken: _requeue_token,
        dec.SetContext: _set_context,
        dec.ApplyOutput: _apply_output,
        dec.OpenGroup: _open_group,
        dec.CloseGroup: _close_group,
        dec.SealGroup: _seal_group,
        dec.CompleteGroup: _complete_group,
        dec.TolerateFailure: _tolerate_failure,
        dec.FailGroup: _fail_group,
        dec.CancelGroup: _cancel_group,
        dec.MergeBranches: _merge_branches,
        dec.ActivateFanIn: _activate_fan_in,
        dec.AbsorbArrivals: _absorb_arrivals,
        dec.ResetFanIn: _reset_fan_in,
    }
)
