"""How many: which counts of a definition are explored as they stand, and which are cut.

A fan-out of a million need not be explored with a million branches where nothing counts them. Counted they are where a group that
is open there has a join that counts (`any`, `m_of_n`) or tolerates failures, and everywhere where branches stand in each other's
way (mutexes, blocking joins, joins over `incoming` that count). What is counted is explored as it stands up to a bound. Beyond it
there is one case in which less is as good: the only fan-out into a group of `m_of_n`, within which nothing is split, behaves the
same when its size and its `m` are made smaller together. Else the cut is *doubtful*: what is found has to be shown with the true
counts, and that nothing was found says nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from wonder_ray.definitions.expressions import compile_expression
from wonder_ray.definitions.graph import INCOMING
from wonder_ray.errors import ExpressionError
from wonder_ray.soundness.conditions import names_in

if TYPE_CHECKING:
    from wonder_ray.definitions import models
    from wonder_ray.soundness.outcomes import OpenGroups

SIZES: Final = 2
"""A fan-out that nothing counts has so many branches at most, and a loop is taken so often, where counts are cut."""
SIZE_MAX: Final = 12
"""No fan-out whose size is free is explored with more, whatever its join needs."""
QUORUM: Final = 3
"""Enough branches for an `m` that is computed from the size of the group."""
TOLERATED_MAX: Final = 3
_JOINS_MAX: Final = 100
"""Where more joins count, a free size is not fitted to those around it one by one."""


class Counts:
    """The counts of a definition as they are explored.

    Attributes:
        explored: Transition (by its place) -> its number of branches, where the definition says one.
        iterations: Transition -> how often it may be taken.
        thresholds: Group -> how many arrivals its join needs, where that is a number.
        doubtful: What was cut though it is counted, in words.
        is_cut: Whether any number is smaller than the definition says.
        is_sampled: Whether a size is free that an `m` is computed from: only some of the sizes are explored.
    """

    def __init__(self, definition: models.WorkflowDefinition, open_groups: OpenGroups, exact: int) -> None:
        """Counts of up to `exact` (or a few more, where they are counted) are explored as they stand."""
        self._definition = definition
        self._open_groups = open_groups
        self._exact = exact
        self.doubtful: list[str] = []
        self.is_cut = False
        self.is_sampled = False
        self.thresholds = _thresholds(definition)
        joins = {t.join.over: t.join for t in definition.transitions if t.join is not None}
        self.by_group = {over for over, join in joins.items() if isinstance(join.m, str)}
        counting = {over for over, join in joins.items() if join.strategy != "all" and over != INCOMING}
        tolerant = {t.group for t in definition.transitions if t.group is not None and t.tolerated_failures}
        self._counting = counting | tolerant
        self._counting_bits = open_groups.bits(self._counting)
        self._everywhere = any(getattr(node, "mutex", ()) for node in definition.nodes) or any(
            join.blocking or (over == INCOMING and join.strategy != "all") for over, join in joins.items()
        )
        self._openers = Counter(t.group for t in definition.transitions if t.group is not None)
        self.explored: dict[int, int] = {}
        self.iterations: dict[int, int] = {}
        for i, t in enumerate(definition.transitions):
            said = None if t.open else branches_of(t)
            if said is not None:
                self.explored[i] = self._branches(t, said)
                self.is_cut = self.is_cut or self.explored[i] < said
            if t.max_iterations is not None:
                self.iterations[i] = self._iterations(t, t.max_iterations)
                self.is_cut = self.is_cut or self.iterations[i] < t.max_iterations

    def same_as(self, other: Counts) -> bool:
        """Whether all is explored with the same numbers."""
        return (self.explored, self.iterations, self.thresholds) == (other.explored, other.iterations, other.thresholds)

    def free_sizes(self, t: models.Transition) -> tuple[int, ...]:
        """The sizes with which a fan-out is explored whose size depends on data: those that joins around it tell apart."""
        if not self._is_counted(t):
            return (0, 1, SIZES)
        needed = max((self.thresholds[group] for group in self._around(t)), default=1)
        if needed >= SIZE_MAX:
            self._doubt(t, "as many branches as data says", SIZE_MAX)
        needed = min(needed, SIZE_MAX - 1)
        tolerated = t.tolerated_failures if isinstance(t.tolerated_failures, int) else 0
        quorum = QUORUM if self.by_group else 1
        self.is_sampled = self.is_sampled or bool(self.by_group)
        return tuple(sorted({0, 1, SIZES, quorum, needed, needed + 1, min(tolerated + 2, SIZE_MAX)}))

    def _around(self, t: models.Transition) -> list[str]:
        """The groups with a threshold that can be open where a transition fires, and the one that it opens."""
        if len(self.thresholds) > _JOINS_MAX:
            return list(self.thresholds)
        open_groups = self._open_groups
        return [g for g in self.thresholds if g == t.group or open_groups.any_at(t.source, open_groups.bits([g]))]

    def _is_counted(self, t: models.Transition) -> bool:
        if self._everywhere or t.group in self._counting:
            return True
        return bool(self._counting) and self._open_groups.any_at(t.source, self._counting_bits)

    def _branches(self, t: models.Transition, said: int) -> int:
        counted = self._is_counted(t)
        if said <= (max(self._exact, SIZE_MAX) if counted else self._exact):
            return said
        if not counted:
            return min(said, SIZES)
        if self._is_alone(t):
            return self._shifted(t.group or "", said)
        self._doubt(t, f"{said:,} branches", SIZE_MAX)
        return SIZE_MAX

    def _shifted(self, group: str, said: int) -> int:
        """The size of a fan-out and the `m` of its join, made smaller by the same number."""
        m = self.thresholds[group]
        self.thresholds[group] = needed = min(m, SIZE_MAX - 1)
        return min(said, needed - 1) if said < m else min(said - m + needed, SIZE_MAX)

    def _is_alone(self, t: models.Transition) -> bool:
        """Whether a transition makes all the members that its group ever has, and no other group counts them."""
        group = t.group
        if self._everywhere or group not in self.thresholds or self._openers[group] > 1:
            return False
        if isinstance(t.tolerated_failures, float) or (t.tolerated_failures or 0) > TOLERATED_MAX:
            return False
        if self._open_groups.any_at(t.source, self._counting_bits):
            return False
        bit = self._open_groups.bits([group])
        within = [other for other in self._definition.transitions if self._open_groups.any_at(other.source, bit)]
        tiers = Counter((other.source, other.on, other.priority) for other in within)
        return all(count == 1 for count in tiers.values()) and not any(o.spawn_count is not None or o.foreach for o in within)

    def _iterations(self, t: models.Transition, said: int) -> int:
        counted = self._is_counted(t)
        most = max(self._exact, SIZE_MAX) if counted else self._exact
        if said > most and counted:
            self._doubt(t, f"up to {said:,} rounds", SIZE_MAX)
        return said if said <= most else SIZE_MAX if counted else SIZES

    def _doubt(self, t: models.Transition, what: str, cut: int) -> None:
        text = f"{t.source!r} -> {t.target!r} makes {what}, of which {cut} were explored though joins or locks count them"
        if text not in self.doubtful:
            self.doubtful.append(text)


def branches_of(t: models.Transition) -> int | None:
    """How many branches a fan-out makes, where the definition says so."""
    if isinstance(t.spawn_count, int):
        return t.spawn_count
    if t.foreach is None or names_in(t.foreach):
        return None
    try:
        found = compile_expression(t.foreach).evaluate({})
    except ExpressionError:
        return None
    return len(found) if isinstance(found, list) else None


def _thresholds(definition: models.WorkflowDefinition) -> dict[str, int]:
    return {
        t.join.over: t.join.m
        for t in definition.transitions
        if t.join is not None and t.join.over != INCOMING and t.join.strategy == "m_of_n" and isinstance(t.join.m, int)
    }
