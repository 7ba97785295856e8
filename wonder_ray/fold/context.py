"""How events change the scoped context."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from wonder_ray.definitions.targets import Target, parse_target, set_in
from wonder_ray.values import own

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wonder_ray import workflow_events as ev
    from wonder_ray.decisions import Write
    from wonder_ray.fold.changes import Folding


def context_updated(state: Folding, event: ev.ContextUpdated, _stamp: ev.Stamp) -> None:
    """One value was written."""
    write_context(state, event.scope_id, (event.write,))


def writes_applied(state: Folding, event: ev.ContextOutputApplied | ev.BranchesMerged, _stamp: ev.Stamp) -> None:
    """A node's output mapping, or the merges of a join, were written."""
    write_context(state, event.scope_id, event.writes)


@lru_cache(maxsize=4096)
def target_of(text: str) -> Target:
    """`parse_target`, once per text: a run has few targets and many writes."""
    return parse_target(text)


def write_context(state: Folding, scope_id: str, writes: Iterable[Write]) -> None:
    """Apply assignments to a scope's overlay; a nested path first takes over the whole top-level value it lies in."""
    overlay = state.contexts.get(scope_id)
    for write in writes:
        target = target_of(write.target)
        if overlay is None:
            overlay = state.contexts[scope_id] = {"state": {}, "output": {}}
        tree = overlay[target.root]
        if len(target.path) > 1 and target.path[0] not in tree:
            seen = state.view(scope_id)[target.root]
            if target.path[0] in seen:
                tree[target.path[0]] = own(seen[target.path[0]])
        set_in(tree, target.path, own(write.value))
        state.changes.writes.append((scope_id, write))
        state.index.context_changed = True
