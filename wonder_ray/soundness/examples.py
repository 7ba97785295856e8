"""The way to a finding, made as short as it can be, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wonder_ray.soundness.conditions import are_possible
from wonder_ray.soundness.copying import live_tokens
from wonder_ray.soundness.findings import findings_of, has_asked_too_much, is_unhandled, stuck
from wonder_ray.soundness.stepping import Stepper, can_move, from_outside, movable
from wonder_ray.soundness.wording import told
from wonder_ray.state import TERMINAL_RUN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wonder_ray.soundness.abstraction import Abstract
    from wonder_ray.soundness.conditions import Atom
    from wonder_ray.soundness.findings import Key
    from wonder_ray.soundness.stepping import Move, Stepped

MORE: Final = 40
"""So much more work goes into bringing other branches to where those of an example are."""


class Examples:
    """Plays moves again, from the start of a run."""

    def __init__(self, abstract: Abstract, records_max: int) -> None:
        """`records_max` bounds the work of shortening."""
        self.graph = abstract.graph
        self._stepper = Stepper(abstract)
        self._left = self._records_max = records_max

    def shortened(self, key: Key, moves: Sequence[Move]) -> list[Move]:
        """The moves without those that what is found (its kind and place) does not need."""
        kept = list(moves)
        for at in range(len(kept) - 2, 0, -1):
            fewer = kept[:at] + kept[at + 1 :]
            if self._left > 0 and self.shows(key, fewer):
                kept = fewer
        return kept

    def completed(self, key: Key, moves: Sequence[Move]) -> list[Move] | None:
        """The moves, and where there are more branches than they are about, those with which all others do the same."""
        if self.shows(key, moves):
            return list(moves)
        return self._continued(key, moves, None) or self._continued(key, moves[:-1], moves[-1])

    def _continued(self, key: Key, moves: Sequence[Move], last: Move | None) -> list[Move] | None:
        """The moves, then those of the same kind for as long as there are some, then the last one."""
        steps = self.play(moves)
        if not moves or len(steps) < len(moves):
            return None
        alike = {move.node_id: move for move in moves} | ({} if last is None else {last.node_id: last})
        known = {atom: value for step in steps for atom, value in step.learned.items()}
        blamed = any(self._blames(step) for step in steps)
        made, state, left = list(moves), steps[-1].state, self._left + MORE * self._records_max
        while left > 0 and state.run.status not in TERMINAL_RUN:
            held = None if last is None else last.token_id
            token = next((token for token in movable(state) if token.node_id in alike and token.id != held), None)
            if token is not None:
                made.append(alike[token.node_id]._replace(token_id=token.id))
            elif last is not None and can_move(state, last):
                made.append(last)
                last = None
            else:
                return None
            stepped = self._stepper.step(state, made[-1], known)
            blamed = blamed or is_unhandled(stepped)
            if any(finding.key == key for finding in findings_of(self.graph, stepped, blamed=blamed)):
                return made
            blamed = blamed or has_asked_too_much(self.graph, stepped)
            state, known = stepped.state, known | stepped.learned
            left -= 1 + len(state.tokens) + len(state.groups)
        return None

    def _blames(self, step: Stepped) -> bool:
        return is_unhandled(step) or has_asked_too_much(self.graph, step)

    def told(self, moves: Sequence[Move]) -> tuple[str, ...]:
        """The moves in words."""
        return tuple(told(self.graph, stepped) for stepped in self.play(moves))

    def shows(self, key: Key, moves: Sequence[Move]) -> bool:
        """Whether these moves can be made, and lead there."""
        steps = self.play(moves)
        if len(steps) < len(moves):
            return False
        last = steps[-1]
        blamed = is_unhandled(last) or any(self._blames(step) for step in steps[:-1])
        found = list(findings_of(self.graph, last, blamed=blamed))
        if last.state.run.status not in TERMINAL_RUN and not movable(last.state) and not from_outside(last.state):
            found.append(stuck(live_tokens(last.state)))
        return any(finding.key == key for finding in found)

    def play(self, moves: Sequence[Move]) -> list[Stepped]:
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


def is_consistent(steps: Iterable[Stepped]) -> bool:
    """Whether what was answered of the run's input is the same throughout."""
    return are_possible(pair for step in steps for pair in step.said)
