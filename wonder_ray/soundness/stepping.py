"""One step of an exploration: production planners run a turn, once for every way in which its free choices may come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.coordinator.machine import Machine
from wonder_ray.coordinator.traces import Tracer
from wonder_ray.fold import Folding, new_state
from wonder_ray.planning import facts
from wonder_ray.soundness.conditions import Atom
from wonder_ray.soundness.copying import copy_live
from wonder_ray.soundness.outcomes import CLOSED, GROUP_WAITED, JOIN_WAITED
from wonder_ray.state import GroupStatus, RunStatus, TokenStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wonder_ray.soundness.abstraction import Abstract
    from wonder_ray.soundness.outcomes import Outcome
    from wonder_ray.state import Token

ROOM = 1_000_000_000


class Move(NamedTuple):
    """What happens next: the work of a token ends, something comes from outside, or (without an outcome) the run starts."""

    token_id: str
    """The token; or the group that is closed, or whose join has waited long enough."""
    node_id: str
    """Its node; or the group's name."""
    outcome: Outcome | None
    script: tuple[int, ...] = ()
    """How the free choices come out."""


class Stepped(msgspec.Struct):
    """Where a move has led."""

    move: Move
    state: Folding
    events: list[ev.WorkflowEvent]
    learned: dict[Atom, bool]
    """What was assumed of the run's input."""
    decided: dict[str, dict[Atom, bool]]
    """Token -> how its conditions came out."""
    said: list[tuple[Atom, bool]]
    """What was answered of the input."""
    sizes: dict[tuple[str, str], int]
    """(Text, token) -> how many branches it made."""
    broken: set[str]
    """The tokens whose expressions could not be evaluated."""
    needed: list[int]
    """How many arrivals data asked for, in order."""


class Watch(Tracer):
    """Notes the events of a turn, as they are."""

    def __init__(self) -> None:
        super().__init__(0)
        self.events: list[ev.WorkflowEvent] = []

    def begin(self, turn: int, now_us: int, epoch: int) -> None:  # noqa: ARG002 - a turn is a turn
        """A turn begins."""
        self.events = []

    def add(self, event_type: str, *, node_id: str | None = None, token_id: str | None = None, **payload: Any) -> None:
        """Nothing else is noted."""

    def event(self, event: ev.WorkflowEvent) -> None:
        """One event."""
        self.events.append(event)


class Stepper:
    """Runs turns on copies of states."""

    def __init__(self, abstract: Abstract) -> None:
        self._chooser = abstract.chooser
        self._watch = Watch()
        self._machine = Machine(abstract.graph, new_state("run_explored"), epoch=1, tracer=self._watch)

    def beginning(self) -> Folding:
        """The state before the first move."""
        return new_state("run_explored")

    def start(self) -> Iterator[Stepped]:
        """The ways in which a run may start."""
        yield from self.steps(self.beginning(), Move("", "", None), {})

    def steps(self, state: Folding, move: Move, known: Mapping[Atom, bool]) -> Iterator[Stepped]:
        """The ways in which a move may come out."""
        script: Sequence[int] | None = ()
        while script is not None:
            yield self.step(state, move._replace(script=tuple(script)), known)
            script = self._chooser.next_script()

    def step(self, state: Folding, move: Move, known: Mapping[Atom, bool]) -> Stepped:
        """One way."""
        waited = move.outcome is not None and move.outcome.of == "time"
        copied = copy_live(state, due=move.token_id if waited else None)
        self._chooser.begin(move.script, known)
        self._machine.go_on_from(copied)
        self._machine.turn([_fact(copied, move)], now_us=0, room=lambda _node: ROOM)
        script = tuple(answer for answer, _ in self._chooser.taken)
        chooser = self._chooser
        move = move._replace(script=script)
        return Stepped(
            move,
            copied,
            self._watch.events,
            chooser.learned,
            chooser.decided,
            chooser.said,
            chooser.sizes,
            chooser.broken,
            chooser.needed,
        )


def movable(state: Folding) -> list[Token]:
    """The tokens whose work is under way."""
    return [token for token in state.tokens.values() if token.status is TokenStatus.DISPATCHED]


def from_outside(state: Folding) -> list[Move]:
    """What else can happen: open groups are closed, joins have waited long enough."""
    groups = [group for group in state.groups.values() if group.status is GroupStatus.OPEN]
    waiting = (token for token in state.tokens.values() if token.status is TokenStatus.WAITING_FOR_SIBLINGS)
    return [
        *(Move(group.id, group.name, CLOSED) for group in groups if group.open),
        *(Move(group.id, group.name, GROUP_WAITED) for group in groups if group.due_us is not None),
        *(Move(token.id, token.node_id, JOIN_WAITED) for token in waiting if token.due_us is not None),
    ]


def can_move(state: Folding, move: Move) -> bool:
    """Whether a move that was possible elsewhere is possible here."""
    if move.outcome is None:
        return state.run.status is RunStatus.QUEUED
    if move.outcome.of == "work":
        return any(token.id == move.token_id for token in movable(state))
    return any((other.token_id, other.outcome) == (move.token_id, move.outcome) for other in from_outside(state))


def _fact(state: Folding, move: Move) -> facts.Fact:
    if move.outcome is None:
        return facts.StartRun(input=None, workflow_name="", workflow_version="")
    if move.outcome.of == "closing":
        return facts.SealGroup(group=move.token_id)
    if move.outcome.of == "time":
        return facts.Alarm()
    token = state.tokens[move.token_id]
    if move.outcome.error is None:
        return facts.TaskSucceeded(token_id=token.id, attempt=token.attempt, epoch=token.epoch, result=None)
    error = msgspec.structs.replace(move.outcome.error, node_id=token.node_id)
    return facts.TaskErrored(token_id=token.id, attempt=token.attempt, epoch=token.epoch, error=error)
