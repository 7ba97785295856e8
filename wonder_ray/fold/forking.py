"""How events give a run that has just begun the state of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wonder_ray.decisions import Write
from wonder_ray.definitions.targets import Target
from wonder_ray.fold.context import write_context
from wonder_ray.state import Lineage
from wonder_ray.values import own

if TYPE_CHECKING:
    from wonder_ray import workflow_events as ev
    from wonder_ray.fold.changes import Folding


def forked(state: Folding, event: ev.RunForked, _stamp: ev.Stamp) -> None:
    """Where the run comes from."""
    state.run.forked_from = Lineage(run_id=event.source.run_id, sequence=event.source.sequence)


def restored(state: Folding, event: ev.RunRestored, _stamp: ev.Stamp) -> None:
    """A part of the state is there; copies of the records, since the events of a live run share them with its source."""
    changes = state.changes
    for token in event.token_records:
        state.tokens[token.id] = changes.tokens[token.id] = msgspec.structs.replace(token)
    for group in event.group_records:
        state.groups[group.id] = changes.groups[group.id] = msgspec.structs.replace(group)
    for fanout in event.fanout_records:
        state.fanouts[fanout.id] = changes.fanouts[fanout.id] = msgspec.structs.replace(fanout)
    for kept in event.kept:
        state.keep(kept)
    for undo in event.undos:
        state.put_undo(msgspec.structs.replace(undo))
    for scope_id, overlay in (event.contexts or {}).items():
        for root in ("state", "output"):
            writes = [Write(Target(root, (key,)).text, own(value)) for key, value in overlay[root].items()]
            write_context(state, scope_id, writes)
    for scope_id, transition_id, count in event.iterations:
        state.iterations[scope_id, transition_id] = changes.iterations[scope_id, transition_id] = count
    for join_id, taken in (event.rounds or {}).items():
        state.rounds[join_id] = dict.fromkeys(taken)
        changes.iterations.update({(join_id, transition_id): 1 for transition_id in taken})
    if event.last:
        state.rebuild_index()
