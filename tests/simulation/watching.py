"""What is checked the moment a turn is durable, before anything of it is released: the invariants about state and events."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from tests.auditing import audit
from tests.simulation.violations import Violation, require
from wonder_ray.coordinator.loading import state_of
from wonder_ray.coordinator.machine import Machine
from wonder_ray.definitions.graph import compile_graph
from wonder_ray.fold import evolve, fold, new_state
from wonder_ray.workflow_events import Stamp, decode_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.simulation.outside import WatchedStore
    from tests.simulation.sites import Site
    from wonder_ray.coordinator.coordinator import Coordinator
    from wonder_ray.coordinator.machine import Turn
    from wonder_ray.fold import Folding
    from wonder_ray.planning.facts import Fact
    from wonder_ray.storage.records import TurnRecord


class Told(msgspec.Struct):
    """What one turn was told: with today's planners, the same must come of it."""

    epoch: int
    now_us: int
    facts: list[Any]
    rooms: dict[str, int]
    """Lane -> the room that was told; where it was not asked for, nothing could start."""

    def room_in(self, lanes: Mapping[str, str], node: str) -> int:
        """The room for a node's tokens as it was then."""
        return self.rooms.get(lanes.get(node, node), 1_000_000)


class Watch:
    """Looks at every turn of one coordinator."""

    def __init__(self, site: Site, coordinator: Coordinator) -> None:
        self._site = site
        self._machine = coordinator._machine
        self._folded: Folding = fold(site.run_id, _decoded(site.lines))
        self._told: Told | None = None
        self._real_turn = self._machine.turn
        self._machine.turn = self._turn  # type: ignore[method-assign] # to hear what it is told

    def _turn(
        self,
        batch: Iterable[Fact],
        *,
        now_us: int,
        room: Callable[[str], int],
    ) -> Turn:
        told = self._told = Told(self._machine.epoch, now_us, list(batch), {})

        def noted(node: str) -> int:
            lane = self._machine._tasks.lane(node)
            return told.rooms.setdefault(lane, room(node))

        return self._real_turn(told.facts, now_us=now_us, room=noted)

    def turn_is_durable(self, record: TurnRecord, store: WatchedStore) -> None:
        """Invariants 2, 3, 4 and 8; then the auditor looks at the events."""
        site = self._site
        epoch = self._machine.epoch
        require(record.epoch == epoch, "I8", f"a turn of epoch {record.epoch} was stored by a coordinator of epoch {epoch}")
        numbers = [sequence for sequence, _ in record.events]
        first = len(site.lines) + 1
        require(numbers == list(range(first, first + len(numbers))), "I3", f"after event {first - 1} came {numbers}")
        rows = [msgspec.json.decode(line) for _, line in record.events]
        written = [row["sequence_number"] for row in rows]
        require(written == numbers, "I3", f"events {numbers} bear the numbers {written}")
        site.lines.extend(line for _, line in record.events)
        if self._told is not None:
            site.told.append(self._told)
            self._told = None
        stored = store.load()
        assert stored is not None
        reloaded = state_of(stored)
        site.tokens, site.groups, site.children = reloaded.tokens, reloaded.groups, reloaded.children
        for row in rows:
            key = msgspec.json.decode(row["metadata"]).get("key") if row.get("metadata") else None
            if key is not None:
                site.recorded[key] += 1
                require(site.recorded[key] == 1, "I9", f"the command {key} is recorded twice: {row}")
        self._check_states(rows, reloaded)
        site.auditor.turn(rows, reloaded)
        self._check_index(reloaded)
        site.world.turns += 1
        if site.auditor.ended is not None:
            site.has_ended()

    def _check_states(self, rows: list[dict[str, Any]], reloaded: Folding) -> None:
        """What the events say, what is stored, and what the coordinator believes are one."""
        for row in rows:
            evolve(self._folded, decode_event(row), Stamp(row["sequence_number"], row["turn"], row["turn_now"], row["epoch"]))
        live = self._machine.state
        stored, folded, believed = reloaded.durable(), self._folded.durable(), live.durable()
        require(folded == stored, "I2", f"the events say {difference(folded, stored)}")
        require(believed == stored, "I4", f"the coordinator believes {difference(believed, stored)}")

    def _check_index(self, reloaded: Folding) -> None:
        """What is derived from the records is what they say."""
        live = self._machine.state
        try:
            audit(live, reloaded, self._machine.graph)
        except AssertionError as error:
            raise Violation("I4", f"the index is not what the records say: {error}") from error


def difference(found: dict[str, Any], stored: dict[str, Any]) -> str:
    """The first part in which two states differ."""
    for part, mine in found.items():
        other = stored[part]
        if mine == other:
            continue
        for key in {**mine, **other} if isinstance(mine, dict) else ():
            if mine.get(key) != other.get(key):
                return f"{part}.{key} = {mine.get(key)!r:.300}, and stored is {other.get(key)!r:.300}"
    return "the same"


def check_replay(site: Site) -> None:
    """Invariants 5 and 6 at the end: what was told yields the events again, byte for byte, from the records alone.

    The replaying machine loses after every turn what it has derived from them, as where a coordinator is lost.
    """
    lanes = lanes_of(site)
    machine = Machine(compile_graph(site.definition), new_state(site.run_id), epoch=1, lanes=lanes)
    lines: list[bytes] = []
    for told in site.told:
        machine.epoch = told.epoch
        turn = machine.turn(told.facts, now_us=told.now_us, room=partial(told.room_in, lanes))
        lines.extend(line for _, line in turn.record.events)
        machine.state.rebuild_index()
        machine.go_on_from(machine.state)
    for mine, other in zip(lines, site.lines, strict=False):
        require(mine == other, "I5", f"replayed, event {other!r:.200} is {mine!r:.200}")
    require(len(lines) == len(site.lines), "I5", f"replayed, there are {len(lines)} events instead of {len(site.lines)}")


def lanes_of(site: Site) -> dict[str, str]:
    """Node -> lane, as its coordinator had them."""
    coordinator = next(life.coordinator for life in reversed(site.lives) if life.coordinator is not None)
    return dict(coordinator._machine._tasks._lanes)


def _decoded(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in lines]
