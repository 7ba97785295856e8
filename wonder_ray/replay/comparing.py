"""What counts as the same event and as the same state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from wonder_ray.coordinator.loading import state_of
from wonder_ray.fold import as_us, fold
from wonder_ray.workflow_events import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wonder_ray.storage.records import StoredRun

_PLACE: Final = ("sequence_number", "turn", "turn_now", "epoch", "event_type")
_MISSING: Final = "nothing"


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it is compared: what `encode_line` writes, whether it comes from there or from the Parquet dataset.

    >>> plain_row({"sequence_number": 1, "turn": 1, "turn_now": 5, "epoch": 1, "event_type": "a.b", "node_id": None})
    {'sequence_number': 1, 'turn': 1, 'turn_now': 5, 'epoch': 1, 'event_type': 'a.b'}
    """
    found = {name: row[name] for name in _PLACE}
    found["turn_now"] = as_us(row["turn_now"])
    found.update((name, row[name]) for name in COLUMNS if row.get(name) is not None)
    details = msgspec.json.decode(row["metadata"]) if row.get("metadata") else {}
    if details:
        found["metadata"] = details
    return found


def stored_differences(stored: StoredRun, run_id: str, rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The first few places where a run's stored state differs from what its events fold to."""
    return tuple(state_differences(state_of(stored).durable(), fold(run_id, rows).durable()))


def state_differences(stored: Any, folded: Any, most: int = 5) -> list[str]:
    """The first few places where two states (`RunState.durable()`) differ.

    >>> state_differences({"run": {"status": "running"}}, {"run": {"status": "completed"}})
    ["run.status: stored 'running', folded 'completed'"]
    """
    found = []
    for line in _differences(stored, folded, ""):
        found.append(line)
        if len(found) == most:
            break
    return found


def _differences(stored: Any, folded: Any, place: str) -> Iterator[str]:
    if not isinstance(stored, dict) or not isinstance(folded, dict):
        if stored != folded:
            yield f"{place or 'the state'}: stored {stored!r:.200}, folded {folded!r:.200}"
        return
    for key in [*stored, *(key for key in folded if key not in stored)]:
        where = f"{place}.{key}" if place else str(key)
        if key not in stored:
            yield f"{where}: stored {_MISSING}, folded {folded[key]!r:.200}"
        elif key not in folded:
            yield f"{where}: stored {stored[key]!r:.200}, folded {_MISSING}"
        else:
            yield from _differences(stored[key], folded[key], where)
