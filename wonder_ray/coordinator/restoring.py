"""What a run that begins from the state of another one takes over, as events.

Everything that has ended, waits or is kept is taken over as it is. Tasks and child runs that were under way are the other run's
own: here their tokens are ready to be dispatched anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.state import Token, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wonder_ray.run_state import RunState

T = TypeVar("T")
CHUNK: Final = 500
"""Records in one event."""
_UNDER_WAY: Final = frozenset({TokenStatus.DISPATCHED, TokenStatus.WAITING_FOR_CHILD})
_TO_BE_MADE: Final = _UNDER_WAY | {TokenStatus.PENDING, TokenStatus.WAITING_FOR_RETRY}


def restoring_events(source: RunState) -> Iterator[ev.RunRestored]:
    """The events that give a run, which has just been started, the state of another one."""
    for tokens in _chunks(_taken_over(token) for token in source.tokens.values()):
        yield ev.RunRestored(token_records=tokens)
    for groups in _chunks(source.groups.values()):
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


def _taken_over(token: Token) -> Token:
    """An attempt that is yet to be made is the first one of this run, and its input is rendered from this run's state."""
    if token.status not in _TO_BE_MADE:
        return token
    if token.status in _UNDER_WAY:
        token = msgspec.structs.replace(token, status=TokenStatus.PENDING, due_us=None)
    return msgspec.structs.replace(token, attempt=0, failures={}, input=None, epoch=0, child_id=None)
