"""How a run ends: what is live is withdrawn, children end, work is taken back, and then comes the terminal event (R11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.decisions import (
    BeginEnding,
    CancelWorkflow,
    CompleteUndo,
    CompleteWorkflow,
    CreateToken,
    Decision,
    FailWorkflow,
    StartCompensation,
    TimeOutWorkflow,
)
from wonder_ray.ids import derive_id
from wonder_ray.planning.cancelling import cancel_everything
from wonder_ray.state import Ending, ErrorRecord, RunStatus, Token, TokenStatus

if TYPE_CHECKING:
    from wonder_ray.run_state import RunState


def end_run(state: RunState, ending: Ending, reason: str) -> list[Decision]:
    """The run's end is decided: at once where nothing is to be waited for."""
    decisions = cancel_everything(state, reason)
    if state.children or (ending.compensate and state.undos):
        return [*decisions, BeginEnding(ending=ending)]
    return [*decisions, _terminal(ending)]


def fail_run(state: RunState, error: ErrorRecord, reason: str) -> list[Decision]:
    """The run fails, and takes back what it can."""
    return end_run(state, Ending(status=RunStatus.FAILED, error=error, compensate=True), reason)


def _terminal(ending: Ending) -> Decision:
    if ending.error is None:
        completed = ending.status is RunStatus.COMPLETED
        return CompleteWorkflow(output=ending.output) if completed else CancelWorkflow(reason=ending.reason)
    kind = TimeOutWorkflow if ending.status is RunStatus.TIMED_OUT else FailWorkflow
    return kind(error=ending.error)


def go_on_ending(state: RunState) -> list[Decision]:
    """What comes next in a run whose end is decided; [] while a child or an undo is under way."""
    index = state.index
    for queue in (index.has_result, index.has_failed, index.touched_groups, index.touched_joins):
        queue.clear()
    while index.to_route:
        token = state.tokens[index.to_route.popleft()]
        if token.undo_of is not None:
            return [_undone(state, token)]
    ending = state.run.ending
    if ending is None or index.live or state.children:
        return []
    if not ending.compensate or not state.undos:
        return [_terminal(ending)]
    if state.run.status is RunStatus.CANCELLING:
        return [StartCompensation(undos=len(state.undos))]
    return [_next_undo(state)]


def _undone(state: RunState, token: Token) -> Decision:
    undone = state.tokens[token.undo_of or ""]
    return CompleteUndo(
        undo_id=undone.id, node_id=undone.node_id, error=None if token.status is TokenStatus.COMPLETED else token.error
    )


def _next_undo(state: RunState) -> Decision:
    """The last work first."""
    undo = state.undos[next(reversed(state.undos))]
    done = state.tokens[undo.id]
    return CreateToken(
        token_id=derive_id("t", undo.id, "undo"),
        node_id=undo.node_id,
        path_id=done.path_id,
        parent_id=done.id,
        scope_id=done.scope_id,
        fanout_id=done.fanout_id,
        index=done.index,
        undo_of=undo.id,
    )
