"""Replaying turn by turn, and the report of what came out differently."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray import workflow_events as ev
from wonder_ray.coordinator.machine import Machine
from wonder_ray.errors import HistoryConflictError
from wonder_ray.fold import Changes, as_us, fold, new_state
from wonder_ray.planning import facts
from wonder_ray.replay.comparing import plain_row
from wonder_ray.replay.dispatching import Room, is_of_dispatch
from wonder_ray.replay.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.fold import Folding

DIFFERENCES_MAX: Final = 20
"""After so many turns that differ, the others are not looked at."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first event of a turn that comes out differently today."""

    turn: int
    sequence_number: int
    recorded: dict[str, Any] | None
    """The recorded row; None when more comes out today than was recorded."""
    replayed: dict[str, Any] | None
    """The row of today; None when less comes out."""
    error: str | None = None
    """What today's planners raised in this turn."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a replay."""

    run_id: str
    turns: int
    """Turns that were looked at."""
    events: int
    differences: tuple[Difference, ...] = ()
    """One per turn that differs, at most `DIFFERENCES_MAX`; the next turn went on from what was recorded, where that can be."""
    state: tuple[str, ...] | None = None
    """Where the stored state differs from what the events fold to, or why it cannot be read; None when there is none."""

    @property
    def equal(self) -> bool:
        """Whether everything came out as recorded."""
        return not self.differences and not self.state


def replay(graph: Graph, run_id: str, rows: Sequence[dict[str, Any]], *, open_end: bool = False) -> Replay:
    """Replay a history from its beginning.

    Args:
        graph: The definition that the run was made with.
        run_id: Whose history it is.
        rows: Its event rows, in sequence from 1.
        open_end: Whether the last turn may go on beyond the last row, as where a coordinator is at work.

    Raises:
        HistoryConflictError: The rows have a gap or a double, or were written by a newer version.
    """
    machine = Machine(graph, new_state(run_id), epoch=1)
    differences: list[Difference] = []
    done = turns = 0
    for _, group in groupby(rows, key=lambda row: row["turn"]):
        recorded = _Turn(machine, list(group))
        difference = recorded.replay()
        turns += 1
        done += len(recorded.rows)
        if difference is None or (open_end and done == len(rows) and difference.recorded is None and not difference.error):
            continue
        differences.append(difference)
        state = None if len(differences) == DIFFERENCES_MAX else _state_after(run_id, rows[:done])
        if state is None:
            break
        machine = Machine(graph, state, epoch=1)
    return Replay(run_id=run_id, turns=turns, events=done, differences=tuple(differences))


def _state_after(run_id: str, rows: Sequence[dict[str, Any]]) -> Folding | None:
    """The state after a turn, as a coordinator would have loaded it; None where the events do not fit each other."""
    try:
        state = fold(run_id, rows)
    except HistoryConflictError:
        raise
    except Exception:  # noqa: BLE001 - events of no run lead anywhere; that they are not right has been found already
        return None
    state.rebuild_index()
    state.changes = Changes()
    return state


class _Turn:
    """One recorded turn, and a machine that is told it."""

    def __init__(self, machine: Machine, rows: list[dict[str, Any]]) -> None:
        self.machine = machine
        self.rows = rows
        self.events = [ev.decode_event(row) for row in rows]
        self.first: int = rows[0]["sequence_number"]
        self.now_us = as_us(rows[0]["turn_now"])
        self._compared = 0
        self._difference: Difference | None = None
        self._telling = Telling(self.events, self.now_us)
        self._room = Room(machine.graph, self.events)

    def replay(self) -> Difference | None:
        """The first difference, or None."""
        self.machine.epoch = self.rows[0]["epoch"]
        emitted, error = self.machine.emitted, None
        try:
            emitted = self.machine.turn(self._facts(), now_us=self.now_us, room=self._room_of).record.events
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is what comes out today
            error = f"{type(raised).__name__}: {raised}"
            emitted = self.machine.emitted
        self._compare(emitted)
        if self._difference is None and (error or self._compared < len(self.rows)):
            self._differ(self._compared, None)
        if self._difference is not None and error:
            return msgspec.structs.replace(self._difference, error=error)
        return self._difference

    # --- telling -------------------------------------------------------------------------------------------------

    def _facts(self) -> Iterator[facts.Fact]:
        """What the machine is told next, until it has to dispatch."""
        alarmed = False
        while (at := self._position()) < len(self.events) and not self._differs():
            fact = self._telling.fact_at(self.machine.state, at)
            if fact is None:
                if alarmed or is_of_dispatch(self.events[at]):
                    return
                fact, alarmed = facts.Alarm(), True
            yield fact

    def _room_of(self, node_id: str) -> int:
        return 0 if self._differs() else self._room.of(self.machine.state, node_id, self._position())

    def _position(self) -> int:
        return self.machine.state.run.sequence + 1 - self.first

    # --- comparing -----------------------------------------------------------------------------------------------

    def _differs(self) -> bool:
        self._compare(self.machine.emitted)
        return self._difference is not None

    def _compare(self, emitted: Sequence[tuple[int, bytes]]) -> None:
        """Look at the events that have come since the last time."""
        while self._difference is None and self._compared < len(emitted):
            got = plain_row(msgspec.json.decode(emitted[self._compared][1]))
            if self._compared >= len(self.rows) or got != plain_row(self.rows[self._compared]):
                self._differ(self._compared, got)
            self._compared += 1

    def _differ(self, at: int, got: dict[str, Any] | None) -> None:
        self._difference = Difference(
            turn=self.rows[0]["turn"],
            sequence_number=self.first + at,
            recorded=plain_row(self.rows[at]) if at < len(self.rows) else None,
            replayed=got,
        )
