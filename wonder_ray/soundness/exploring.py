"""Breadth first through all states of a definition, up to a bound."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.fold import Folding
from wonder_ray.soundness.conditions import Atom
from wonder_ray.soundness.copying import Shape, Shapes, live_tokens
from wonder_ray.soundness.findings import Finding, Key, findings_of, has_asked_too_much, is_unhandled, stuck
from wonder_ray.soundness.stepping import Move, Stepper, from_outside, movable
from wonder_ray.state import TERMINAL_RUN, RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wonder_ray.soundness.abstraction import Abstract
    from wonder_ray.soundness.outcomes import Outcome
    from wonder_ray.soundness.reduction import Reduction
    from wonder_ray.soundness.stepping import Stepped
    from wonder_ray.state import Token

WORK_OF_STATE: Final = 16
"""A bound of n states is also one of n times so much work: for wide states, and for steps that may come out in many ways."""
WORK_OF_STEP: Final = 4
"""The work of a step, beside one for each record that is copied."""


class Position(msgspec.Struct):
    """One state, and how it was reached first."""

    state: Folding
    known: dict[Atom, bool]
    blamed: bool
    """Whether a failure on the way, that no node handled, explains that joins are not met."""
    parent: int | None
    move: Move
    depth: int


class Found(msgspec.Struct):
    """A finding and the way to it."""

    finding: Finding
    moves: list[Move]


class Exploration:
    """All that can happen in a definition, as far as the bound lets it be seen.

    Attributes:
        states: How many states were seen.
        complete: Whether that was all.
        found: What is wrong, with the shortest way on which it was met.
        reached: The nodes that ran.
        completes: Whether a run can complete.
    """

    def __init__(
        self,
        abstract: Abstract,
        outcomes: Mapping[str, Sequence[Outcome]],
        *,
        reduction: Reduction | None,
        states_max: int,
        depth_max: int | None = None,
    ) -> None:
        self.states = 0
        self.complete = False
        self.found: dict[Key, Found] = {}
        self.reached: set[str] = set()
        self.completes = False
        self._abstract = abstract
        self._outcomes = outcomes
        self._reduction = reduction
        self._states_max = states_max
        self._depth_max = depth_max
        self._stepper = Stepper(abstract)
        self._positions: list[Position] = []
        self._seen: set[Shape] = set()
        self._queue: deque[int] = deque()
        self._work = 0

    def explore(self) -> None:
        """See what there is."""
        for stepped in self._stepper.start():
            self._take(stepped, None)
        while self._queue and self.states <= self._states_max and not self._is_tired():
            self._expand(self._queue.popleft())
        self.complete = not self._queue and not self._is_tired()

    def _is_tired(self) -> bool:
        return self._work >= self._states_max * WORK_OF_STATE

    def _expand(self, index: int) -> None:
        position = self._positions[index]
        if self._depth_max is not None and position.depth >= self._depth_max:
            return
        state = position.state
        tokens, outside = movable(state), from_outside(state)
        if not tokens and not outside:
            self._note(stuck(live_tokens(state)), index, None)
            return
        chosen = None if self._reduction is None else self._reduction.choose(tokens, live_tokens(state))
        if chosen is not None and self._move(index, chosen):
            return
        for move in outside:
            self._step(index, move)
        if len(tokens) == 1:
            if chosen is None:
                self._move(index, tokens[0])
            return
        shapes = self._shapes(state)
        alike: set[Shape] = set()
        for token in tokens:
            around = shapes.around(token)
            if around not in alike and token is not chosen:
                self._move(index, token)
            alike.add(around)

    def _move(self, index: int, token: Token) -> bool:
        """Let the work of a token end in every way; whether that left all other tokens as they were."""
        alone = True
        for outcome in self._outcomes[token.node_id]:
            alone = self._step(index, Move(token.id, token.node_id, outcome)) and alone
        return alone

    def _step(self, index: int, move: Move) -> bool:
        position = self._positions[index]
        alone = True
        for stepped in self._stepper.steps(position.state, move, position.known):
            self._take(stepped, index)
            if self._is_tired():
                return True
            ends = stepped.state.run.status in TERMINAL_RUN
            alone = alone and not ends and not any(isinstance(event, ev.TokenCancelled) for event in stepped.events)
        return alone

    def _shapes(self, state: Folding) -> Shapes:
        return Shapes(state, self._abstract.exact, self._abstract.ordered)

    def _take(self, stepped: Stepped, parent: int | None) -> None:
        """Look at where a step has led, and go on from there later, if it is new."""
        before = None if parent is None else self._positions[parent]
        state = stepped.state
        self._work += WORK_OF_STEP + len(state.tokens) + len(state.groups)
        blamed = (before is not None and before.blamed) or is_unhandled(stepped)
        self.reached.update(e.node_id for e in stepped.events if isinstance(e, ev.TaskDispatched | ev.NodeCompleted))
        for finding in findings_of(self._abstract.graph, stepped, blamed=blamed):
            self._note(finding, parent, stepped.move)
        blamed = blamed or has_asked_too_much(self._abstract.graph, stepped)
        if state.run.status in TERMINAL_RUN:
            self.completes = self.completes or state.run.status is RunStatus.COMPLETED
            return
        known = stepped.learned if before is None else before.known | stepped.learned
        shape = (self._shapes(state).whole, blamed, tuple(sorted(known.items())))
        if shape in self._seen:
            return
        self._seen.add(shape)
        depth = 0 if before is None else before.depth + 1
        self._positions.append(Position(state, known, blamed, parent, stepped.move, depth))
        self._queue.append(self.states)
        self.states += 1

    def _note(self, finding: Finding, index: int | None, last: Move | None) -> None:
        if finding.key in self.found:
            return
        moves = [] if last is None else [last]
        while index is not None:
            moves.append(self._positions[index].move)
            index = self._positions[index].parent
        self.found[finding.key] = Found(finding, moves[::-1])
