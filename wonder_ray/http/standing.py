"""How a run stands, as the API tells it: shortly, or with all that its history holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.client.forks import graph_of
from wonder_ray.reading.standing import child_json, node_counts, progress_json, record_json, wait_json, waits_of

if TYPE_CHECKING:
    from wonder_ray.http.backend import Backend
    from wonder_ray.resources.records import RunRecord

WAITING_SHOWN: Final = 100
CHILDREN_SHOWN: Final = 1_000
_LIVE: Final = ("status", "events", "tokens", "started_us", "ended_us", "output", "error")
_MORE: Final = ("nodes", "waiting", "in_flight", "undos", "epoch", "turn")


def standing(backend: Backend, record: RunRecord) -> dict[str, Any]:
    """Its record, and what its coordinator tells of it, where that lives."""
    found = record_json(record) | {"live": False, "nodes": {}, "waiting": []}
    found["coordinator_alive"] = backend.is_coordinated(record)
    snapshot = None if record.ended else backend.run(record).status()
    if snapshot is not None:
        told = msgspec.to_builtins(snapshot)
        found |= {name: told[name] for name in (*_LIVE, *_MORE) if name in told} | {"live": True}
    return found


def detailed(backend: Backend, record: RunRecord) -> dict[str, Any]:
    """The same, with its nodes, waits and children also where no coordinator tells: its history is folded."""
    found = standing(backend, record)
    children = backend.call(
        "resources", "list_runs", workspace_id=record.workspace_id, parent_run_id=record.run_id, limit=CHILDREN_SHOWN
    )
    found["children"] = [child_json(child) for child in children.runs]
    state = backend.run(record)._folded()  # noqa: SLF001 - the same package
    if state.run.sequence >= (found["events"] or 0):
        found |= progress_json(state) | {"nodes": node_counts(state)}
        waits = waits_of(state, lambda: graph_of(backend.client._services, record), WAITING_SHOWN)  # noqa: SLF001 - as above
        found["waiting"] = [wait_json(wait) for wait in waits]
    return found
