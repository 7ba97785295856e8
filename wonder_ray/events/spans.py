"""Which rows of a run are held: spans of consecutive sequence numbers with one row epoch. Pure; no storage.

The high-water mark is the end of the unbroken history from 1. Spans beyond a hole exist only after part of the storage was
lost; they are kept, and refilling the hole stores just what is missing.

>>> held = [Span(1, 10, 1), Span(11, 14, 2)]
>>> mark_of(held)
14
>>> judge(held, [Span(12, 16, 2)])
Verdict(outcome='ok', missing=[Span(first=15, last=16, epoch=2)], message='')
>>> judge(held, [Span(14, 16, 3)]).outcome
'conflict'
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wonder_ray.events.wire import Outcome


class Span(NamedTuple):
    """Rows `first` to `last`, both included, committed in `epoch`."""

    first: int
    last: int
    epoch: int


class Verdict(NamedTuple):
    """What to do with a batch: `missing` are the parts of it that are not held yet."""

    outcome: Outcome
    missing: list[Span]
    message: str = ""


def mark_of(held: Sequence[Span]) -> int:
    """The high-water mark of these spans (ordered by `first`); 0 when row 1 is missing."""
    mark = 0
    for span in held:
        if span.first != mark + 1:
            break
        mark = span.last
    return mark


def boundaries_of(held: Sequence[Span]) -> list[tuple[int, int]]:
    """`(first sequence number, epoch)` of each epoch at or below the mark."""
    mark = mark_of(held)
    found: list[tuple[int, int]] = []
    for span in held:
        if span.last <= mark and (not found or found[-1][1] != span.epoch):
            found.append((span.first, span.epoch))
    return found


def judge(held: Sequence[Span], incoming: Sequence[Span]) -> Verdict:
    """Compare consecutive incoming spans with what is held; see `DURABILITY`: duplicate, conflict, new or gap."""
    mark = mark_of(held)
    for mine in held:
        for other in incoming:
            if mine.first <= other.last and other.first <= mine.last and mine.epoch != other.epoch:
                first = max(mine.first, other.first)
                return Verdict("conflict", [], f"row {first} is held from epoch {mine.epoch}, and came from epoch {other.epoch}")
    if incoming[0].first > mark + 1:
        return Verdict("gap", [], f"rows {mark + 1} to {incoming[0].first - 1} are missing")
    missing = subtract(incoming, held)
    for before, after in pairwise(sorted([*held, *missing])):
        if before.epoch > after.epoch:
            return Verdict("conflict", [], f"row {after.first} of epoch {after.epoch} follows a row of epoch {before.epoch}")
    return Verdict("ok", missing)


def subtract(incoming: Sequence[Span], held: Sequence[Span]) -> list[Span]:
    """The parts of `incoming` that no held span covers, in order."""
    left = list(incoming)
    for mine in held:
        left = [part for span in left for part in _without(span, mine)]
    return left


def insert(held: Sequence[Span], pieces: Sequence[Span]) -> list[Span]:
    """The held spans with new ones among them (they must not overlap); neighbours of one epoch become one span."""
    merged: list[Span] = []
    for span in sorted([*held, *pieces]):
        if merged and merged[-1].epoch == span.epoch and merged[-1].last + 1 == span.first:
            merged[-1] = Span(merged[-1].first, span.last, span.epoch)
        else:
            merged.append(span)
    return merged


def _without(span: Span, hole: Span) -> list[Span]:
    if hole.last < span.first or span.last < hole.first:
        return [span]
    parts = []
    if span.first < hole.first:
        parts.append(Span(span.first, hole.first - 1, span.epoch))
    if hole.last < span.last:
        parts.append(Span(hole.last + 1, span.last, span.epoch))
    return parts
