"""A stored run -> the state in memory, as its last committed turn left it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.decisions import Write
from wonder_ray.fold import Changes, Folding, write_context
from wonder_ray.state import INCOMING_PREFIX, Child, Kept, Undo
from wonder_ray.values import decode

if TYPE_CHECKING:
    from wonder_ray.storage.records import StoredRun


_RECORDS: Final[MappingProxyType[str, type[Any]]] = MappingProxyType({"kept": Kept, "child": Child, "undo": Undo})


def state_of(stored: StoredRun) -> Folding:
    """The state of a stored run, its indexes rebuilt."""
    state = Folding(stored.run)
    state.tokens.update((token.id, token) for token in stored.tokens)
    state.groups.update((group.id, group) for group in stored.groups)
    state.fanouts.update((fanout.id, fanout) for fanout in stored.fanouts)
    for owner_id, transition_id, count in stored.iterations:
        if not owner_id.startswith(INCOMING_PREFIX):
            state.iterations[owner_id, transition_id] = count
        elif count:
            state.rounds.setdefault(owner_id, {})[transition_id] = None
    for delta in stored.deltas:
        write_context(state, delta.scope_id, (Write(delta.target, decode(delta.value), delta.op),))
    records = sorted((decode_record(kind, value) for kind, _, value in stored.records), key=lambda record: record.ordinal)
    for record in records:
        match record:
            case Kept():
                state.kept[record.id] = record
            case Child():
                state.children[record.id] = record
            case Undo():
                state.undos[record.id] = record
    state.rebuild_index()
    state.changes = Changes()
    return state


def decode_record(kind: str, value: bytes) -> Kept | Child | Undo:
    """The record of a kind from its JSON."""
    record: Kept | Child | Undo = msgspec.json.decode(value, type=_RECORDS[kind])
    return record
