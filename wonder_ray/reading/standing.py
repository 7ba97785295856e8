"""How a run stands, as plain JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from wonder_ray.values import decode
from wonder_ray.workflow_events import TERMINAL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.definitions.graph import Graph
    from wonder_ray.fold import Folding
    from wonder_ray.planning.queries import Waiting
    from wonder_ray.resources.records import RunRecord


def node_counts(state: Folding) -> dict[str, dict[str, int]]:
    """Node -> token status -> tokens, in the order in which nodes were reached."""
    counts: dict[str, dict[str, int]] = {}
    for (node_id, status), count in state.index.counts.items():
        if count:
            counts.setdefault(node_id, {})[str(status)] = count
    return counts


def ends_run(event_type: str) -> bool:
    """Whether nothing happens in a run after an event of this type.

    >>> ends_run("workflow.failed"), ends_run("token.failed")
    (True, False)
    """
    return event_type in TERMINAL_EVENTS


def record_json(record: RunRecord) -> dict[str, Any]:
    """The fields of a record, those that hold JSON decoded."""
    found: dict[str, Any] = msgspec.structs.asdict(record)
    for name in ("input", "output", "error", "fork"):
        found[name] = None if found[name] is None else decode(found[name])
    found["status"] = str(record.status)
    return found


def progress_json(state: Folding) -> dict[str, Any]:
    """What a coordinator would report of this state."""
    run = state.run
    ending = run.ending
    ended = run.started_us is not None and run.ended_us is not None
    return {
        "status": str(run.status),
        "started_us": run.started_us,
        "ended_us": run.ended_us,
        "output": run.output,
        "error": None if run.error is None else run.error.as_json(),
        "tokens": len(state.tokens),
        "events": run.sequence,
        "duration_ms": ((run.ended_us or 0) - (run.started_us or 0)) / 1000 if ended else None,
        "pause_reason": run.pause_reason,
        "ending": None if ending is None else {"status": str(ending.status), "reason": ending.reason},
        "undos": len(state.undos),
    }


def waits_of(state: Folding, graph: Callable[[], Graph | None], most: int | None = None) -> list[Waiting]:
    """What a run waits for; the `graph` of its definition is asked for only where it waits for something."""
    from wonder_ray.planning.queries import waiting_of

    return waiting_of(state, graph(), most) if waiting_of(state, most=1) else []


def wait_json(wait: Waiting) -> dict[str, Any]:
    """One thing that a run waits for: every field."""
    return msgspec.structs.asdict(wait)


def child_json(record: RunRecord) -> dict[str, Any]:
    """A child run in short."""
    return {
        "run_id": record.run_id,
        "workflow_name": record.workflow_name,
        "status": str(record.status),
        "parent_token_id": record.parent_token_id,
    }


def narrowed(
    where: str, trace_id: str | None, *, since_us: int | None = None, until_us: int | None = None
) -> tuple[str, tuple[object, ...]]:
    """The user's condition, narrowed; his own is left as it stands when there is nothing to add."""
    added = [("trace_id = ?", trace_id), ("timestamp >= ?", since_us), ("timestamp < ?", until_us)]
    terms = [(term, value) for term, value in added if value is not None]
    if not terms:
        return where, ()
    head, _, rest = where.strip().partition(" ")
    own = rest if head.lower() == "where" else where
    return " AND ".join([*(term for term, _ in terms), f"({own})"]), tuple(value for _, value in terms)
