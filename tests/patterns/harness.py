"""Runs a pattern's definition in every order in which its surroundings can act, each turn audited as `CoreRun` does it.

A *move* is one thing that can happen next: a task comes back, somebody sends something, time passes. A *course* is a run
together with the moves that made it. `courses` yields all courses of a definition up to a bound and random ones beyond it,
then those in which the coordinator is lost after a turn, and at last one in which it is lost after every turn. What a test
expects of a course follows from its moves and from the pattern's meaning, never from how the engine gets there.
"""

from __future__ import annotations

import random
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.cases.words import action
from tests.core import CoreRun, every_order
from tests.patterns.reading import Reading
from wonder_ray.definitions.models import ActionNode
from wonder_ray.definitions.validation import validate
from wonder_ray.errors import CommandRefusedError
from wonder_ray.planning import facts
from wonder_ray.state import TERMINAL_RUN, ErrorRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wonder_ray.coordinator.machine import Turn
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.state import Child, Token

    Pick = Callable[[Sequence[object]], int]

MOST: Final = 500
"""Courses that are tried one by one; where there are more, chance takes over."""
BEYOND: Final = 150
"""Random courses where not all can be tried."""
TIME: Final = "time"
"""The name of the move in which time passes until something is due."""
CHILD_STARTS: Final = "child starts"
CHILD_ENDS: Final = "child ends"
"""The move in which a run hears that a child of it has ended."""
CHILD_STOPS: Final = "child stops"
"""The move in which a child run is told to end."""
PLAIN: Final = frozenset({"tests.cases.words:echo", "tests.cases.words:fail_always"})
"""What the tasks of a pattern may do: return what they are given, or fail."""
ENDED: Final = frozenset(str(status) for status in TERMINAL_RUN)
ENDED_OR_WAITING: Final = ENDED | {"waiting", "paused"}


@dataclass(frozen=True)
class Pattern:
    """What the catalogue knows of a pattern."""

    number: int
    name: str
    carried_by: str
    """The part of the graph model that carries it."""


@dataclass(frozen=True, eq=False)
class Event:
    """Something that somebody outside does once, at any moment from `when` on."""

    name: str
    fact: facts.Fact
    when: Callable[[Course], bool] = lambda run: True
    """Whether it may happen yet."""


class Move(NamedTuple):
    """One thing that can happen next."""

    name: str
    """A node's id for its result, an event's name, `TIME`, or `CHILD_STARTS`, `CHILD_ENDS` and `CHILD_STOPS`; for what happens
    in a child run, its workflow's name stands before it: `child/a`."""
    make: Callable[[], facts.Fact | None]
    """Makes it; gives what the run is to be told of it, if anything."""
    alone: bool = False
    """Whether it meets no other in one turn."""
    late: bool = False
    """Whether it is the result of a task that nobody waits for any more."""


class Course(CoreRun, Reading):
    """A run in which the surroundings choose each next move.

    Args:
        pick: Given the moves that are possible, says which is made.
        events: What may come from outside.
        workflows: What child runs may be of, beside the workflow itself.
        batched: Whether two moves may meet in one turn, as messages do in a drained mailbox.
        late: Whether the results of tasks that were withdrawn, or whose coordinator was lost, come all the same, later.
        known: How many choices are as in a course before, whose audits need not be repeated.
        depth: How many runs are above it.
    """

    def __init__(
        self,
        definition: WorkflowDefinition,
        *,
        pick: Pick,
        events: Sequence[Event] = (),
        workflows: Sequence[WorkflowDefinition] = (),
        batched: bool = False,
        late: bool = False,
        known: int = 0,
        depth: int = 0,
        **how: Any,
    ) -> None:
        actions = {node.id: node.action for node in definition.nodes if isinstance(node, ActionNode)}
        assert set(actions.values()) <= PLAIN, "a pattern is carried by the graph, not by code in an action"
        super().__init__(definition, {node_id: action(ref) for node_id, ref in actions.items()}, **how)
        self.moves: list[str] = []
        """The names of the moves made, in order; results that came too late are none."""
        self.turn_of_move: list[int] = []
        """The turn in which each was made."""
        self.refusals: list[str] = []
        """The names of the events that were refused, in order."""
        self.family: dict[str, Course] = {}
        """Its child runs, by their ids."""
        self._to_come = list(events)
        self._workflows = {other.name: other for other in (definition, *workflows)}
        self._told_to_stop: set[str] = set()
        self._withdrawn: list[Token] = []
        self._pick = pick
        self._batched = batched
        self._late = late
        self._depth = depth
        self._how = how
        self._known = known
        self._choices = 0
        self._checks = self._checked

    def start(self, value: Any = None) -> None:
        """The first turn."""
        name = self.definition.name
        self.turn(facts.StartRun(input=value, workflow_name=name, workflow_version="v", depth=self._depth))

    def step(self) -> bool:
        """One more turn; False when nothing more can happen."""
        moves = self.possible()
        if not moves:
            if self.status in ENDED_OR_WAITING or not self.state.index.ready:
                return False
            self.turn(facts.Alarm())  # what was withdrawn has left room
            return True
        made = [moves[self._choose(moves)]]
        if self._batched and not made[0].alone:
            rest = [move for move in moves if move is not made[0] and not move.alone]
            another = self._choose([None, *rest])
            made.extend(rest[another - 1 : another] if another else ())
        self.make(*made)
        return True

    def possible(self) -> list[Move]:
        """The moves that can be made now."""
        moves = [Move(token.node_id, partial(self._come_back, token)) for token in self.flying]
        moves += [Move(token.node_id, partial(self._come_late, token), late=True) for token in self._withdrawn]
        for child in self.children.values():
            moves += self._moves_of(child)
        if self.status not in ENDED:
            moves += [Move(event.name, partial(self._happen, event)) for event in self._to_come if event.when(self)]
            if self.state.next_due_us() is not None:
                moves.append(Move(TIME, self._pass, alone=True))
        return moves

    def make(self, *moves: Move) -> None:
        """Make these moves, in one turn."""
        for move in moves:
            if not move.late:
                self.moves.append(move.name)
                self.turn_of_move.append(self.turns + 1)
        batch = [(move, fact) for move in moves if (fact := move.make()) is not None]
        if batch:
            turn = self.turn(*(fact for _, fact in batch))
            replies = zip(batch, turn.replies, strict=True)
            self.refusals += [move.name for (move, _), reply in replies if isinstance(reply, CommandRefusedError)]

    def turn(self, *batch: facts.Fact) -> Turn:
        """One turn, audited unless a course before was the same so far."""
        self._checked = self._checks and self._choices >= self._known
        before = [copy(token) for token in self.flying] if self._late else []
        turn = super().turn(*batch)
        withdrawn = set(turn.withdrawn)
        self._withdrawn.extend(token for token in before if (token.id, token.attempt) in withdrawn)
        if turn.ended:
            assert not self.children, "the terminal event waits for those of child runs"
            assert all(child.status in ENDED for child in self.family.values())
        return turn

    def crash(self) -> None:
        """Lose the coordinator; what its tasks return comes too late, if it comes."""
        lost = [copy(token) for token in self.flying]
        super().crash()
        if self._late and not self._crash_every_turn:  # where every turn has them, they would never come to an end
            self._withdrawn.extend(lost)

    def _choose(self, among: Sequence[object]) -> int:
        self._choices += 1
        return self._pick(among)

    @property
    def meetings(self) -> list[set[str]]:
        """The moves that were made in one turn with others."""
        turns: dict[int, set[str]] = {}
        for turn, move in zip(self.turn_of_move, self.moves, strict=True):
            turns.setdefault(turn, set()).add(move)
        return [names for names in turns.values() if len(names) > 1]

    def merged(self, target: str) -> list[Any]:
        """What each firing of a join has merged into a target."""
        writes = (write for row in self.events("branches.merged") for write in row["writes"])
        return [write["value"] for write in writes if write["target"] == target]

    # --- what can happen -----------------------------------------------------------------------------------------

    def _come_back(self, token: Token) -> facts.Fact:
        self.flying = [other for other in self.flying if other is not token]
        return self.outcome(token)

    def _come_late(self, token: Token) -> facts.Fact:
        self._withdrawn = [other for other in self._withdrawn if other is not token]
        return self.outcome(token)

    def _happen(self, event: Event) -> facts.Fact:
        self._to_come.remove(event)
        return event.fact

    def _pass(self) -> facts.Fact:
        due_us = self.state.next_due_us()
        assert due_us is not None, "time passes, and nothing is due"
        self._wait_until(due_us)
        return facts.Alarm()

    def _moves_of(self, child: Child) -> list[Move]:
        """What can happen in a child run, and between it and this one."""
        run = self.family.get(child.id)
        if run is None and child.cancelled is None:
            return [Move(CHILD_STARTS, partial(self._start_child, child))]
        if run is None or run.status in ENDED:
            return [Move(CHILD_ENDS, partial(self._end_child, child))]
        moves = [Move(f"{child.workflow}/{move.name}", partial(run.make, move), alone=True) for move in run.possible()]
        if child.cancelled is not None and child.id not in self._told_to_stop:
            moves.append(Move(CHILD_STOPS, partial(self._stop_child, child, run), alone=True))
        return moves

    def _start_child(self, child: Child) -> facts.Fact:
        definition, others = self._workflows[child.workflow], list(self._workflows.values())
        how: dict[str, Any] = self._how | {"run_id": child.id, "depth": self._depth + 1, "late": self._late}
        run = self.family[child.id] = Course(definition, pick=self._pick, workflows=others, **how)
        run.clock = self.clock
        run.start(child.input)
        return facts.ChildStarted(child_id=child.id, version="v")

    def _end_child(self, child: Child) -> facts.Fact:
        del self.children[child.id]
        run = self.family.get(child.id)
        if run is None:
            return facts.ChildEnded(child_id=child.id, status="cancelled", error=ErrorRecord("Cancelled", "before its start"))
        return facts.ChildEnded(child_id=child.id, status=run.status, output=run.output, error=run.error)

    def _stop_child(self, child: Child, run: Course) -> None:
        self._told_to_stop.add(child.id)
        run.turn(facts.CancelRun(reason=child.cancelled or ""))


def courses(
    definition: WorkflowDefinition,
    value: Any = None,
    *,
    most: int = MOST,
    crashes: bool = True,
    **how: Any,
) -> Iterator[Course]:
    """Every course of a definition up to `most` and random ones beyond, then (unless told not to) courses with crashes."""
    wrong = [str(problem) for problem in validate(definition) if problem.severity == "error"]
    assert not wrong, wrong
    turns = 0
    for pick, known in _orders(most):
        run = _run(Course(definition, pick=pick, known=known, **how), value)
        turns = max(turns, run.turns)
        yield run
    if crashes:
        yield from crashing(definition, value, turns, **how)


def crashing(definition: WorkflowDefinition, value: Any, turns: int, **how: Any) -> Iterator[Course]:
    """Courses by chance, the coordinator lost after one turn of each, and some in which it is lost after every turn."""
    for turn in range(1, turns):
        yield _run(Course(definition, pick=by_chance(turn), crash_at=turn, **how), value)
    for seed in range(5):
        yield _run(Course(definition, pick=by_chance(seed), crash_every_turn=True, **how), value)


def _run(run: Course, value: Any) -> Course:
    run.start(value)
    run.run_on()
    return run


def by_chance(seed: int) -> Pick:
    """Moves by seeded chance."""
    chance = random.Random(seed)
    return lambda moves: chance.randrange(len(moves))


def _orders(most: int) -> Iterator[tuple[Pick, int]]:
    """Ways to choose, each with how many of its first choices are those of the one before."""
    for tried, script in enumerate(every_order()):
        if tried == most:
            break
        yield script, len(script.choices)
    else:
        return
    for seed in range(BEYOND):
        yield by_chance(seed), 0
