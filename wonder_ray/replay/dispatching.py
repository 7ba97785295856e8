"""How much a recorded turn could dispatch: an outside fact, too, which shows in what was dispatched."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from wonder_ray import workflow_events as ev
from wonder_ray.planning.admission import Admission, is_constrained
from wonder_ray.planning.dispatching import INPUT_MAPPING
from wonder_ray.state import TokenStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.run_state import RunState

UNLIMITED: Final = 1_000_000_000
_GUARD: Final = "guard or concurrency_key"
_AROUND: Final = (ev.MutexAcquired, ev.MutexRequested, ev.WorkflowWaiting, ev.WorkflowRunning)


def is_of_dispatch(event: ev.WorkflowEvent) -> bool:
    """Whether an event is one that a turn emits after all its facts, about what is dispatched and what waits for locks."""
    return isinstance(event, _AROUND) or _is_dispatched(event) or _fails(event, _GUARD)


def _is_dispatched(event: ev.WorkflowEvent) -> bool:
    """A ready token was dispatched, or failed because its input could not be rendered."""
    return isinstance(event, ev.TaskDispatched) or _fails(event, INPUT_MAPPING)


def _fails(event: ev.WorkflowEvent, where: str) -> bool:
    return isinstance(event, ev.NodeFailed) and event.error.kind == "expression" and event.error.message.startswith(where)


class Room:
    """Answers a machine that dispatches, so that as many tokens are looked at as were then."""

    def __init__(self, graph: Graph, events: Sequence[ev.WorkflowEvent]) -> None:
        self._graph = graph
        self._events = events
        self._sent = Counter[str]()
        self._begun_at = -1
        """Where the machine stood when it began to look for what to dispatch."""
        self._ahead = 0
        """What of the events has been accounted for since."""

    def of(self, state: RunState, node_id: str, at: int) -> int:
        """The room for a node's tokens when `at` events of the turn have been made."""
        if at != self._begun_at:
            since = self._events[max(0, self._begun_at) : at]
            self._sent.update(event.node_id for event in since if isinstance(event, ev.TaskDispatched))
            self._begun_at, self._ahead = at, at
            self._admission = Admission(state)
        if not is_constrained(self._graph.nodes[node_id]):
            return self._count(node_id) + self._sent[node_id]  # what was sent before in this turn counts against the room
        waited = self._skip_locks(node_id)
        count = self._count(node_id)
        if self._looked_at(state, node_id) == (count, waited):
            return UNLIMITED  # all that waited were looked at, not only those that could start
        return count + self._sent[node_id]

    def _count(self, node_id: str) -> int:
        """How many tokens of the node come next in the record."""
        count = 0
        while self._ahead < len(self._events):
            event = self._events[self._ahead]
            if not _is_dispatched(event) or event.node_id != node_id:  # type: ignore[attr-defined] # both kinds have one
                break
            count += 1
            self._ahead += 1 if isinstance(event, ev.TaskDispatched) else 2  # behind node_failed stands its token.failed
        return count

    def _skip_locks(self, node_id: str) -> int:
        """Pass over what the record says of the node's locks and guards; how many decisions that came of."""
        count = 0
        while self._ahead < len(self._events):
            event = self._events[self._ahead]
            if isinstance(event, ev.MutexAcquired | ev.MutexRequested) and event.node_id == node_id:
                self._ahead += 1
            elif isinstance(event, ev.NodeFailed) and event.node_id == node_id and _fails(event, _GUARD):
                self._ahead += 2
            else:
                break
            count += 1
        return count

    def _looked_at(self, state: RunState, node_id: str) -> tuple[int, int]:
        """How many tokens of the node may start, and how many decisions come before, if all that wait are looked at."""
        node, index = self._graph.nodes[node_id], state.index
        parked, guarded = dict(index.parked), dict(index.guarded)
        admitted = decisions = 0
        for _, token_id in sorted(state.pending(node_id)):
            token = state.tokens[token_id]
            if token.status is TokenStatus.PENDING:
                starts, before = self._admission.admit(node, token)
                admitted += starts
                decisions += len(before)
        for held, as_it_was in ((index.parked, parked), (index.guarded, guarded)):
            held.clear()
            held.update(as_it_was)  # nothing has been looked at yet
        return admitted, decisions
