"""Where a fork of a run can begin, read from its history; and whether a definition can go on from there.

A fork begins at the end of a turn. What was under way then is made anew, so a run is forked before its end is decided: by that
everything that goes on is withdrawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.definitions.graph import INCOMING
from wonder_ray.errors import DefinitionError, WonderError
from wonder_ray.fold import fold
from wonder_ray.planning.changing import problem_with
from wonder_ray.state import HELD_OPEN, INCOMING_PREFIX, TERMINAL_TOKEN, WAITS, TokenStatus, incoming_place
from wonder_ray.workflow_events import TERMINAL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wonder_ray.definitions.graph import Graph, NodeSpec
    from wonder_ray.fold import Folding
    from wonder_ray.run_state import RunState
    from wonder_ray.state import Token

    Row = dict[str, Any]

_DECIDED: Final = TERMINAL_EVENTS | {"workflow.ending"}
_BEGUN: Final = frozenset({"task.dispatched", "gate.opened", "signal.awaited", "timer.set", "subworkflow.requested"})
_DONE: Final = frozenset({"token.completed", "token.failed", "token.timed_out"})
_RESULTS: Final = frozenset({"task.completed", "task.failed", "subworkflow.completed", "subworkflow.failed"})
_NAMED_MAX: Final = 8


class History:
    """The turns of a run, as far as they are known whole.

    Args:
        run_id: The run.
        rows: Its event rows, in sequence from 1, up to the end of a turn.
    """

    def __init__(self, run_id: str, rows: Sequence[Row]) -> None:
        self.run_id = run_id
        self.rows = rows
        self._ends: dict[int, int] = {}
        """Turn -> its last event, in order."""
        self._decided: Row | None = None
        for row in rows:
            self._ends[row["turn"]] = row["sequence_number"]
            if self._decided is None and row["event_type"] in _DECIDED:
                self._decided = row

    def last_point(self) -> int:
        """The last event of the last turn that a fork can begin after."""
        if self._decided is None:
            return self._ends[self.rows[-1]["turn"]] if self.rows else 0
        return self._before(self._decided["turn"])

    def point(self, at: int | None) -> int:
        """The last event of the turn that holds event `at`; by default of the last one that a fork can begin after.

        Raises:
            WonderError: There is no such event, or no fork can begin there; the message says where it can.
        """
        last = self.rows[-1]["sequence_number"] if self.rows else 0
        if at is None:
            at = self.last_point()
            if at == 0:
                what = "has no events yet" if not self.rows else "began and ended within one turn, so there is no point between"
                raise WonderError(f"run {self.run_id} {what}: start it anew instead")
            return at
        if not 1 <= at <= last:
            raise WonderError(f"run {self.run_id} has no event {at}: it has {last}; see `wonder events {self.run_id}`")
        turn = self.rows[at - 1]["turn"]
        decided = self._decided
        if decided is not None and turn >= decided["turn"]:
            where = f"event {point}" if (point := self.last_point()) else "its beginning (start it anew)"
            raise WonderError(
                f"run {self.run_id}: no fork can begin after event {at}, since the run's end was decided then "
                f"({decided['event_type']}, event {decided['sequence_number']}); the last point is {where}"
            )
        return self._ends[turn]

    def start_of(self, node: str) -> int:
        """The last event of the turn in which a node was last begun, and did not end.

        Raises:
            WonderError: It never began, or (as nodes without a task may) ended within the turn; the message says what to do.
        """
        begun = [row for row in self.rows if row.get("node_id") == node and row["event_type"] in _BEGUN]
        ended = [row for row in self.rows if row.get("node_id") == node and row["event_type"] in _DONE]
        if not begun and not ended:
            known = list(dict.fromkeys(str(row["node_id"]) for row in self.rows if row["event_type"] in _BEGUN | _DONE))
            some = ", ".join(repr(name) for name in known[:_NAMED_MAX]) + (", ..." if len(known) > _NAMED_MAX else "")
            raise WonderError(f"run {self.run_id}: node {node!r} was never begun in it; begun were {some or 'none'}")
        last = (begun or ended)[-1]
        turn = last["turn"]
        if any(row["turn"] == turn and row.get("token_id") == last["token_id"] for row in ended):
            raise self._within_one_turn(node, turn)
        return self.point(last["sequence_number"])

    def _within_one_turn(self, node: str, turn: int) -> WonderError:
        sources = list(
            dict.fromkeys(str(row["node_id"]) for row in self.rows if row["turn"] == turn and row["event_type"] in _RESULTS)
        )
        before = self._before(turn)
        begins = ", ".join(f"restart from {source!r}" for source in sources[:_NAMED_MAX])
        instead = f"{begins}{', or ' if begins else ''}fork at event {before}" if before else "start the run anew"
        why = f"with the result of {', '.join(map(repr, sources[:_NAMED_MAX]))}" if sources else "as soon as it was reached"
        return WonderError(
            f"run {self.run_id}: node {node!r} began and ended within one turn, {why}; what came in that turn would have to "
            f"come again: {instead}"
        )

    def _before(self, turn: int) -> int:
        return max((end for each, end in self._ends.items() if each < turn), default=0)

    # --- what a fork would take over -----------------------------------------------------------------------------

    def state_at(self, sequence: int) -> Folding:
        """The state at the end of the turn that holds an event.

        Raises:
            WonderError: Work that it counts on has been taken back since.
        """
        state = fold(self.run_id, self.rows, at=sequence)
        undone = self._taken_back(state)
        if not undone:
            return state
        nodes = ", ".join(dict.fromkeys(repr(state.tokens[token_id].node_id) for token_id in undone))
        done = next(row for row in self.rows if row["event_type"] == "compensation.registered" and row["token_id"] in undone)
        before = self._before(done["turn"])
        instead = f"fork at event {before}, before that was done" if before else "start the run anew"
        raise WonderError(
            f"run {self.run_id} takes back the work of {nodes}, which a fork at event {sequence} would count on: {instead}"
        )

    def _taken_back(self, state: RunState) -> set[str]:
        decided = self._decided
        if decided is None or decided["event_type"] != "workflow.ending":
            return set()
        ending = msgspec.json.decode(decided["metadata"])["ending"]
        return set(state.undos) if ending.get("compensate") else set()


def check_fork(state: RunState, graph: Graph, changes: Mapping[str, Any]) -> None:
    """Raise unless a run of this definition can begin with that state, changed so.

    Raises:
        DefinitionError: The definition lacks what the state needs.
        WonderError: The changes cannot be made.
    """
    missing = next(_missing(state, graph), None)
    if missing is not None:
        raise DefinitionError(f"a fork of run {state.run.run_id} needs {missing}, which its workflow does not have (any more)")
    problem = problem_with(state, graph.state_schema, changes, roots=("state", "output"))
    if problem is not None:
        raise WonderError(f"a fork of run {state.run.run_id} cannot change its state so: {problem}")


def _missing(state: RunState, graph: Graph) -> Iterator[str]:
    nodes = {token.node_id: None for token in state.tokens.values() if token.status not in TERMINAL_TOKEN}
    nodes.update((undo.node_id, None) for undo in state.undos.values())
    open_groups = [group for group in state.groups.values() if group.status in HELD_OPEN]
    nodes.update((state.tokens[group.opener_id].node_id, None) for group in open_groups)
    yield from (f"node {node!r}" for node in nodes if node not in graph.nodes)
    yield from (f"group {group.name!r}" for group in open_groups if group.name not in graph.openers)
    for token in state.tokens.values():
        if token.status is TokenStatus.WAITING_FOR_SIBLINGS and not _is_joined(state, graph, token):
            yield f"the join that tokens wait at before node {token.node_id!r}"
        if token.status in WAITS and not _is_of_kind(graph.nodes[token.node_id], token.status):
            yield f"node {token.node_id!r} as the kind of node that it was ({token.status})"


def _is_of_kind(node: NodeSpec, status: TokenStatus) -> bool:
    waits = {TokenStatus.WAITING_FOR_GATE: node.gate, TokenStatus.WAITING_FOR_SIGNAL: node.signal}
    return waits.get(status, node.timer) is not None


def _is_joined(state: RunState, graph: Graph, token: Token) -> bool:
    join_id = token.join_id or ""
    if join_id.startswith(INCOMING_PREFIX):
        return incoming_place(join_id)[0] in graph.incoming_joins and token.transition_id in graph.edge
    join = graph.group_joins.get(state.groups[join_id].name)
    return join is not None and join.node == token.node_id and join.over != INCOMING
