"""Whether what an example lets time do can come in that order: what is due first happens first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.soundness.stepping import movable
from wonder_ray.state import GroupStatus, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.fold import Folding
    from wonder_ray.soundness.stepping import Stepped

MICROSECONDS = 1_000_000


def durations(definition: WorkflowDefinition) -> dict[str, int]:
    """Node -> after how many microseconds time ends its work, where that is said and it is not tried again."""
    found = {}
    for node in definition.nodes:
        said = getattr(node, "duration_s", None) if node.kind == "timer" else getattr(node, "timeout_s", None)
        if isinstance(said, int | float) and not getattr(node, "retry", ()):
            found[node.id] = round(said * MICROSECONDS)
    return found


def schedule(lasts: Mapping[str, int], steps: Sequence[Stepped]) -> list[int] | None:
    """A time for each step at which what is due then is what the step says, and nothing else; None where there is none.

    Every step comes no earlier than the one before. One that time makes comes when its own time is up, and before that of all
    others; a step that something else makes may come at any time, since alarms may be late.
    """
    born: dict[str, tuple[int, int]] = {}
    later: list[tuple[int, int, int]] = [(i + 1, i, 0) for i in range(len(steps) - 1)]  # a is no earlier than b and so much
    live: dict[str, int] = {}
    for at, stepped in enumerate(steps):
        move = stepped.move
        if move.outcome is not None and move.outcome.by_time:
            if move.token_id in born:
                begun, lasting = born[move.token_id]
                later.append((at, begun, lasting))
            later += [(born[other][0], at, 1 - born[other][1]) for other in live if other != move.token_id]
        live = _due(lasts, stepped.state)
        for item, lasting in live.items():
            born.setdefault(item, (at, lasting))
    return _solved(len(steps), later)


def _due(lasts: Mapping[str, int], state: Folding) -> dict[str, int]:
    """What time will end -> how long it lasts; the time of an exploration is always 0."""
    groups = {g.id: g.due_us for g in state.groups.values() if g.status is GroupStatus.OPEN and g.due_us is not None}
    waiting = {
        t.id: t.due_us for t in state.tokens.values() if t.status is TokenStatus.WAITING_FOR_SIBLINGS and t.due_us is not None
    }
    return groups | waiting | {t.id: lasts[t.node_id] for t in movable(state) if t.node_id in lasts}


def _solved(count: int, later: Sequence[tuple[int, int, int]]) -> list[int] | None:
    times = [0] * count
    for _ in range(count + 1):
        changed = False
        for one, other, by in later:
            if times[one] < times[other] + by:
                times[one] = times[other] + by
                changed = True
        if not changed:
            return times
    return None
