"""The way to a finding, made as short as it can be, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.soundness.copying import live_tokens
from wonder_ray.soundness.findings import findings_of, is_unhandled, stuck
from wonder_ray.soundness.stepping import Stepper, can_move, from_outside, movable
from wonder_ray.soundness.wording import told
from wonder_ray.state import TERMINAL_RUN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wonder_ray.soundness.abstraction import Abstract
    from wonder_ray.soundness.conditions import Atom
    from wonder_ray.soundness.stepping import Move, Stepped


class Examples:
    """Plays moves again, from the start of a run."""

    def __init__(self, abstract: Abstract, records_max: int) -> None:
        """`records_max` bounds the work of shortening."""
        self._graph = abstract.graph
        self._stepper = Stepper(abstract)
        self._left = records_max

    def shortened(self, key: tuple[str, str], moves: Sequence[Move]) -> list[Move]:
        """The moves without those that what is found (its kind and place) does not need."""
        kept = list(moves)
        for at in range(len(kept) - 2, 0, -1):
            fewer = kept[:at] + kept[at + 1 :]
            if self._left > 0 and self._shows(key, fewer):
                kept = fewer
        return kept

    def told(self, moves: Sequence[Move]) -> tuple[str, ...]:
        """The moves in words."""
        return tuple(told(self._graph, stepped) for stepped in self._play(moves))

    def _shows(self, key: tuple[str, str], moves: Sequence[Move]) -> bool:
        """Whether these moves can be made, and lead there."""
        steps = self._play(moves)
        if len(steps) < len(moves):
            return False
        last = steps[-1]
        found = list(findings_of(self._graph, last, blamed=any(map(is_unhandled, steps))))
        if last.state.run.status not in TERMINAL_RUN and not movable(last.state) and not from_outside(last.state):
            found.append(stuck(live_tokens(last.state)))
        return any((finding.kind, finding.place) == key for finding in found)

    def _play(self, moves: Sequence[Move]) -> list[Stepped]:
        """The steps, up to the first move that cannot be made."""
        steps: list[Stepped] = []
        known: dict[Atom, bool] = {}
        state = self._stepper.beginning()
        for move in moves:
            if not can_move(state, move):
                break
            stepped = self._stepper.step(state, move, known)
            steps.append(stepped)
            self._left -= 1 + len(stepped.state.tokens) + len(stepped.state.groups)
            known |= stepped.learned
            state = stepped.state
        return steps
