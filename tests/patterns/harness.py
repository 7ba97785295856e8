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
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.cases.words import action
from tests.core import CoreRun, every_order
from wonder_ray.definitions.models import ActionNode
from wonder_ray.definitions.validation import validate
from wonder_ray.planning import facts
from wonder_ray.state import TERMINAL_RUN, TERMINAL_TOKEN, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wonder_ray.coordinator.machine import Turn
    from wonder_ray.definitions.models import WorkflowDefinition

    Pick = Callable[[Sequence[object]], int]

MOST: Final = 1500
"""Courses that are tried one by one; where there are more, chance takes over."""
BEYOND: Final = 150
"""Random courses where not all can be tried."""
TIME: Final = "time"
"""The name of the move in which time passes until something is due."""
STARTS: Final = frozenset({"task.dispatched", "gate.opened", "signal.awaited", "timer.set"})

PLAIN: Final = frozenset({"tests.cases.words:echo", "tests.cases.words:fail_always"})
"""What the tasks of a pattern may do: return what they are given, or fail."""
STOPS: Final = frozenset({"token.completed", "token.failed", "token.timed_out", "token.cancelled", "token.requeued"})


@dataclass(frozen=True)
class Pattern:
    """What the catalogue knows of a pattern."""

    number: int
    name: str
    carried_by: str
    """The part of the graph model that carries it."""


@dataclass(frozen=True)
class Event:
    """Something that somebody outside does once, at any moment from `when` on."""

    name: str
    fact: facts.Fact
    when: Callable[[Course], bool] = lambda run: True
    """Whether it may happen yet."""


class Late(NamedTuple):
    """A task that was withdrawn, and whose result comes all the same."""

    token: Token


class Move(NamedTuple):
    """One thing that can happen next."""

    name: str
    """A node's id for its result (`late:` and that for one that is not wanted any more), an event's name, or `TIME`."""
    what: Token | Late | Event | None


class Course(CoreRun):
    """A run in which the surroundings choose each next move.

    Args:
        pick: Given the moves that are possible, says which is made.
        events: What may come from outside.
        batched: Whether two moves may meet in one turn, as messages do in a drained mailbox.
        late: Whether the results of withdrawn tasks come all the same, later.
        known: How many choices are as in a course before, whose audits need not be repeated.
    """

    def __init__(
        self,
        definition: WorkflowDefinition,
        *,
        pick: Pick,
        events: Sequence[Event] = (),
        batched: bool = False,
        late: bool = False,
        known: int = 0,
        **how: Any,
    ) -> None:
        actions = {node.id: node.action for node in definition.nodes if isinstance(node, ActionNode)}
        assert set(actions.values()) <= PLAIN, "a pattern is carried by the graph, not by code in an action"
        super().__init__(definition, {node_id: action(ref) for node_id, ref in actions.items()}, **how)
        self.moves: list[str] = []
        """The names of the moves made, in order."""
        self.turn_of_move: list[int] = []
        """The turn in which each was made."""
        self.to_come = list(events)
        self._pick = pick
        self._batched = batched
        self._late = late
        self._withdrawn: list[Late] = []
        self._known = known
        self._choices = 0
        self._checks = self._checked

    def step(self) -> bool:
        """One more turn; False when nothing more can happen."""
        moves = self.possible()
        if not moves:
            if self.state.run.status in TERMINAL_RUN or not self.state.index.ready:
                return False
            self.turn(facts.Alarm())  # what was withdrawn has left room
            return True
        made = [moves[self._choose(moves)]]
        if self._batched and made[0].what is not None:
            rest = [move for move in moves if move is not made[0] and move.what is not None]
            another = self._choose([None, *rest])
            made.extend(rest[another - 1 : another] if another else ())
        self.make(*made)
        return True

    def possible(self) -> list[Move]:
        """The moves that can be made now."""
        results = [Move(token.node_id, token) for token in self.flying]
        results += [Move(f"late:{late.token.node_id}", late) for late in self._withdrawn]
        if self.state.run.status in TERMINAL_RUN:
            return results
        events = [Move(event.name, event) for event in self.to_come if event.when(self)]
        time = [] if self.state.next_due_us() is None else [Move(TIME, None)]
        return [*results, *events, *time]

    def make(self, *moves: Move) -> Turn:
        """Make these moves, in one turn."""
        batch: list[facts.Fact] = []
        for move in moves:
            match move.what:
                case Token() as token:
                    self.flying = [other for other in self.flying if other is not token]
                    batch.append(self.outcome(token))
                case Late() as late:
                    self._withdrawn = [other for other in self._withdrawn if other is not late]
                    batch.append(self.outcome(late.token))
                case Event() as event:
                    batch.append(event.fact)
                    self.to_come.remove(event)
                case _:
                    due_us = self.state.next_due_us()
                    assert due_us is not None, "time passes, and nothing is due"
                    self._wait_until(due_us)
                    batch.append(facts.Alarm())
            self.moves.append(move.name)
            self.turn_of_move.append(self.turns + 1)
        return self.turn(*batch)

    def name(self, *names: str) -> Turn:
        """Make the moves of these names, in one turn; the first of each name that is possible."""
        moves = self.possible()
        chosen: list[Move] = []
        for name in names:
            found = next((move for move in moves if move.name == name and move not in chosen), None)
            assert found is not None, f"{name!r} cannot happen now; possible are {[move.name for move in moves]}"
            chosen.append(found)
        return self.make(*chosen)

    def turn(self, *batch: facts.Fact) -> Turn:
        """One turn, audited unless a course before was the same so far."""
        self._checked = self._checks and self._choices >= self._known
        before = [copy(token) for token in self.flying] if self._late else []
        turn = super().turn(*batch)
        withdrawn = set(turn.withdrawn)
        self._withdrawn.extend(Late(token) for token in before if (token.id, token.attempt) in withdrawn)
        return turn

    def crash(self) -> None:
        """Lose the coordinator, and with it what came too late for it."""
        self._withdrawn = []
        super().crash()

    def _choose(self, among: Sequence[object]) -> int:
        self._choices += 1
        return self._pick(among)

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def counts(self) -> dict[str, int]:
        """Node -> how often it completed, for nodes that did."""
        return dict(self.completed)

    @property
    def live(self) -> list[tuple[str, str]]:
        """(node, status) of the tokens that have not ended, oldest first."""
        return [(token.node_id, str(token.status)) for token in self.tokens() if token.status not in TERMINAL_TOKEN]

    @property
    def cancelled(self) -> list[str]:
        """The nodes whose tokens were cancelled, in that order."""
        return [row["node_id"] for row in self.events("token.cancelled")]

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

    def tokens(self, *nodes: str, parent: Token | None = None) -> list[Token]:
        """The tokens of some nodes (else of all) that come from one token (else from any), oldest first."""
        return sorted(
            (
                token
                for token in self.state.tokens.values()
                if token.node_id in (nodes or (token.node_id,)) and (parent is None or token.parent_id == parent.id)
            ),
            key=lambda token: token.ordinal,
        )

    def begin(self, token: Token) -> int:
        """The sequence number at which the work of a token began, for the first time."""
        rows = (row for row in self.rows if row["event_type"] in STARTS and row["token_id"] == token.id)
        return int(next(rows)["sequence_number"])

    def end(self, token: Token) -> int:
        """The sequence number at which a token completed."""
        rows = (row for row in self.rows if row["event_type"] == "token.completed" and row["token_id"] == token.id)
        return int(next(rows)["sequence_number"])

    def starts(self, *nodes: str) -> list[int]:
        """The sequence numbers at which the work of each token of some nodes began, in order."""
        begun: dict[str, int] = {}
        for row in self.rows:
            if row["event_type"] in STARTS and row["node_id"] in nodes:
                begun.setdefault(row["token_id"], row["sequence_number"])
        return list(begun.values())

    def ends(self, *nodes: str) -> list[int]:
        """The sequence numbers at which tokens of some nodes completed, in order."""
        rows = (row for row in self.rows if row["event_type"] == "token.completed")
        return [row["sequence_number"] for row in rows if row["node_id"] in nodes]

    def sequence(self, *nodes: str) -> list[str]:
        """Some nodes in the order in which their work began."""
        begun = {at: node for node in nodes for at in self.starts(node)}
        return [begun[at] for at in sorted(begun)]

    def in_order(self, earlier: str, later: str) -> bool:
        """Whether every completion of one node precedes every start of another."""
        return max(self.ends(earlier), default=0) < min(self.starts(later), default=1 << 60)

    def keeps_step(self, earlier: str, later: str) -> bool:
        """Whether the nth start of one node always follows the nth completion of another."""
        ends, starts = self.ends(earlier), self.starts(later)
        return len(starts) <= len(ends) and all(end < start for end, start in zip(ends, starts, strict=False))

    def at_a_time(self, *nodes: str) -> int:
        """The most tokens of some nodes whose work went on at the same time."""
        most = 0
        working: set[str] = set()
        for row in self.rows:
            if row.get("node_id") not in nodes:
                continue
            if row["event_type"] in STARTS:
                working.add(row["token_id"])
            elif row["event_type"] in STOPS:
                working.discard(row["token_id"])
            most = max(most, len(working))
        return most


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
    while run.step():
        pass
    run.check()
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
