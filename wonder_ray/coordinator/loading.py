"""A stored run -> the state in memory, as its last committed turn left it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wonder_ray.decisions import Write
from wonder_ray.fold import Changes, Folding, write_context
from wonder_ray.values import decode

if TYPE_CHECKING:
    from wonder_ray.storage.records import StoredRun


def state_of(stored: StoredRun) -> Folding:
    """The state of a stored run, its indexes rebuilt."""
    state = Folding(stored.run)
    state.tokens = {token.id: token for token in stored.tokens}
    state.groups = {group.id: group for group in stored.groups}
    state.fanouts = {fanout.id: fanout for fanout in stored.fanouts}
    state.iterations = {(scope_id, edge_id): count for scope_id, edge_id, count in stored.iterations}
    for delta in stored.deltas:
        write_context(state, delta.scope_id, (Write(delta.target, decode(delta.value), delta.op),))
    state.rebuild_index()
    state.changes = Changes()
    return state
