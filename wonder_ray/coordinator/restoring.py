"""What a run that begins from the state of another one takes over, as events.

Everything that has ended, waits or is kept is taken over as it is; what has a deadline has as long from now on as it had then,
unless that is a moment in time. Tasks and child runs that were under way are the other run's own: here their tokens are ready to
be dispatched anew, with all their attempts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.state import TERMINAL_TOKEN, Token, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Group

T = TypeVar("T")
CHUNK: Final = 500
"""Records in one event."""
_UNDER_WAY: Final = frozenset({TokenStatus.DISPATCHED, TokenStatus.WAITING_FOR_CHILD})
_TO_BE_MADE: Final = _UNDER_WAY | {TokenStatus.PENDING, TokenStatus.WAITING_FOR_RETRY}


def restoring_events(source: RunState, graph: Graph, shift_us: int) -> Iterator[ev.RunRestored]:
    """The events that give a run, which has just been started, the state of another one.

    Args:
        source: The state of the other run.
        graph: The definition of this one.
        shift_us: How much later it is now.
    """
    for tokens in _chunks(_taken_over(token, graph, shift_us) for token in source.tokens.values()):
        yield ev.RunRestored(token_records=tokens)
    for groups in _chunks(_later_group(group, shift_us) for group in source.groups.values()):
        yield ev.RunRestored(group_records=groups)
    for fanouts in _chunks(source.fanouts.values()):
        yield ev.RunRestored(fanout_records=fanouts)
    for kept in _chunks(source.kept.values()):
        yield ev.RunRestored(kept=kept)
    for undos in _chunks(source.undos.values()):
        yield ev.RunRestored(undos=undos)
    for scope_id, overlay in source.contexts.items():
        if overlay["state"] or overlay["output"]:
            yield ev.RunRestored(contexts={scope_id: overlay})
    yield ev.RunRestored(
        iterations=tuple((*key, count) for key, count in source.iterations.items()),
        rounds={join_id: tuple(taken) for join_id, taken in source.rounds.items()},
        last=True,
    )


def _chunks(records: Iterable[T]) -> Iterator[tuple[T, ...]]:
    chunk: list[T] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == CHUNK:
            yield tuple(chunk)
            chunk = []
    if chunk:
        yield tuple(chunk)


def _taken_over(token: Token, graph: Graph, shift_us: int) -> Token:
    """An attempt that is yet to be made is the first one of this run, and its input is rendered from this run's state."""
    if token.status not in _TO_BE_MADE:
        return token if token.status in TERMINAL_TOKEN else _later(token, graph, shift_us)
    if token.status is not TokenStatus.PENDING:
        token = msgspec.structs.replace(token, status=TokenStatus.PENDING, due_us=None, error=None)
    return msgspec.structs.replace(token, attempt=0, input=None, epoch=0, child_id=None, failures={}, solo=False)


def _later(token: Token, graph: Graph, shift_us: int) -> Token:
    """What has a deadline; a timer that goes off at a moment still does."""
    node = graph.nodes.get(token.node_id)
    if token.due_us is None or (node is not None and node.timer is not None and node.timer.until is not None):
        return token
    wait = token.wait
    if wait is not None:
        deadline_us = None if wait.deadline_us is None else wait.deadline_us + shift_us
        wait = msgspec.structs.replace(wait, since_us=wait.since_us + shift_us, deadline_us=deadline_us)
    return msgspec.structs.replace(token, due_us=token.due_us + shift_us, wait=wait)


def _later_group(group: Group, shift_us: int) -> Group:
    return group if group.due_us is None else msgspec.structs.replace(group, due_us=group.due_us + shift_us)
