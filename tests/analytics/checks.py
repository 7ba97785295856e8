"""Every column of the ready reports, held against the same figure computed in Python from the folded rows of some runs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.analytics.reference import Attempt, History, at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wonder_ray.analytics.events import Events

Rows = list[dict[str, Any]]


class Told(NamedTuple):
    """A run: where it belongs, and what happened."""

    workspace: str
    workflow: str
    history: History


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def check_reports(events: Events, runs: Mapping[str, Told], **which: Any) -> None:
    """All five of them: `which` are these runs; without, they are all that there are."""
    check_cost(events.report("cost", **which).dicts(), runs)
    check_queue(events.report("queue", **which).dicts(), runs)
    check_retries(events.report("retries", **which).dicts(), runs)
    check_fanouts(events.report("fanout", **which).dicts(), runs)
    for run, told in runs.items():
        found = events.report("critical-path", run=run).dicts()
        assert {row["workflow_run_id"] for row in found} <= {run}
        check_path(found, told.history)


def grouped(runs: Mapping[str, Told], key: Callable[[Told, Attempt], Any]) -> dict[Any, list[tuple[str, Attempt]]]:
    """The attempts of some runs, each with its run, by a key."""
    groups: dict[Any, list[tuple[str, Attempt]]] = defaultdict(list)
    for run, told in runs.items():
        for attempt in told.history.attempts:
            groups[key(told, attempt)].append((run, attempt))
    return groups


def falls(values: list[float]) -> bool:
    """Whether no value is larger than the one before it, but for the last digits of a sum."""
    return all(later <= earlier + 1e-6 for earlier, later in pairwise(values))


def total(attempts: list[Attempt], field: str) -> Any:
    """Of what the rows that ended them say."""
    return sum(attempt.end.get(field) or 0 for attempt in attempts)


def measured(attempts: list[Attempt]) -> list[float]:
    """What executors have measured."""
    return [a.end["duration_ms"] for a in attempts if a.end.get("duration_ms") is not None]


def queued_ms(attempt: Attempt) -> float:
    return (attempt.dispatched_us - attempt.ready_us) / 1000


# --- cost ----------------------------------------------------------------------------------------------------------


def check_cost(found: Rows, runs: Mapping[str, Told]) -> None:
    groups = grouped(runs, lambda told, a: (told.workspace, told.workflow, a.node_id))
    assert {(row["workspace_id"], row["workflow_name"], row["node_id"]) for row in found} == set(groups)
    assert len(found) == len(groups)
    assert falls([row["cost_usd"] for row in found])
    for row in found:
        pairs = groups[row["workspace_id"], row["workflow_name"], row["node_id"]]
        attempts = [attempt for _, attempt in pairs]
        assert row["runs"] == len({run for run, _ in pairs})
        assert row["attempts"] == len(attempts)
        assert row["tokens"] == total(attempts, "tokens")
        assert row["cost_usd"] == near(total(attempts, "cost_usd"))
        assert row["wasted_usd"] == near(total([a for a in attempts if a.outcome not in {"completed", "open"}], "cost_usd"))
        assert row["run_ms"] == near(sum(measured(attempts)))


# --- queue ---------------------------------------------------------------------------------------------------------


def check_queue(found: Rows, runs: Mapping[str, Told]) -> None:
    groups = grouped(runs, lambda told, a: (told.workflow, a.node_id))
    assert {(row["workflow_name"], row["node_id"]) for row in found} == set(groups)
    assert len(found) == len(groups)
    assert falls([row["queue_ms_total"] + row["run_ms_total"] for row in found])
    for row in found:
        attempts = [attempt for _, attempt in groups[row["workflow_name"], row["node_id"]]]
        queues, work = [queued_ms(a) for a in attempts], measured(attempts)
        closed = [a for a in attempts if a.open_ms is not None]
        took = sum((a.ended_us or 0) - a.ready_us for a in closed) / 1000
        took += sum(queued_ms(a) for a in attempts if a.open_ms is None)
        assert row["attempts"] == len(attempts)
        assert row["queue_ms_median"] == near(statistics.median(queues))
        assert row["queue_ms_p95"] == near(interpolated(queues, 0.95))
        assert row["run_ms_median"] == (near(statistics.median(work)) if work else None)
        assert row["run_ms_p95"] == (near(interpolated(work, 0.95)) if work else None)
        assert row["queue_ms_total"] == near(sum(queues))
        assert row["run_ms_total"] == near(sum(work))
        around = sum(a.open_ms or 0 for a in closed if a.end.get("duration_ms") is not None)
        assert row["overhead_ms_total"] == near(around - sum(work))
        assert row["queue_share"] == (near(sum(queues) / took) if took else None)


def interpolated(values: list[float], share: float) -> float:
    """A quantile between the two values next to it."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


# --- retries -------------------------------------------------------------------------------------------------------


def check_retries(found: Rows, runs: Mapping[str, Told]) -> None:
    everything = sum(a.spent_ms for told in runs.values() for a in told.history.attempts)
    of_token: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for run, told in runs.items():
        for attempt in told.history.attempts:
            of_token[run, attempt.token_id].append(attempt)
    groups = grouped(runs, lambda told, a: (told.workflow, a.node_id, a.outcome, a.end.get("error", {}).get("type")))
    groups = {key: pairs for key, pairs in groups.items() if key[2] not in {"completed", "open"}}
    assert {(r["workflow_name"], r["node_id"], r["outcome"], r["error_type"]) for r in found} == set(groups)
    assert len(found) == len(groups)
    assert falls([row["wasted_ms"] for row in found])
    for row in found:
        pairs = groups[row["workflow_name"], row["node_id"], row["outcome"], row["error_type"]]
        attempts = [attempt for _, attempt in pairs]
        last = [of_token[run, attempt.token_id][-1] for run, attempt in pairs]
        assert row["attempts"] == len(attempts)
        assert row["retried"] == sum(attempt is not final for attempt, final in zip(attempts, last, strict=True))
        assert row["recovered"] == sum(final.outcome == "completed" for final in last)
        assert row["wasted_ms"] == near(sum(a.spent_ms for a in attempts))
        assert row["wasted_tokens"] == total(attempts, "tokens")
        assert row["wasted_usd"] == near(total(attempts, "cost_usd"))
        assert row["share_of_all_ms"] == (near(row["wasted_ms"] / everything) if everything else None)


# --- fan-outs ------------------------------------------------------------------------------------------------------


def check_fanouts(found: Rows, runs: Mapping[str, Told]) -> None:
    starts = [
        (run, row) for run, told in sorted(runs.items()) for row in told.history.rows if row["event_type"] == "fan_out.started"
    ]
    assert len(found) == len(starts)
    for told, (run, start) in zip(found, starts, strict=True):
        assert (told["workflow_run_id"], told["workflow_name"]) == (run, runs[run].workflow)
        check_fanout(told, start, runs[run].history)


def check_fanout(told: dict[str, Any], start: dict[str, Any], history: History) -> None:
    joins = [r for r in history.rows if r["event_type"] == "fan_in.completed" and r["join_id"] == start.get("group_id")]
    branches = [set(tokens) for tokens in history.branches(start["fanout_id"]).values()]
    attempts = [[a for a in history.attempts if a.token_id in tokens] for tokens in branches]
    attempts = [mine for mine in attempts if mine]
    work = [sum(a.spent_ms for a in mine) for mine in attempts]
    ends = sorted(max(over) for mine in attempts if (over := [a.ended_us for a in mine if a.ended_us is not None]))
    ended_us = joins[0]["timestamp"] if joins else max(ends, default=None)
    assert (told["node_id"], told["branches"]) == (start["node_id"], start["count"])
    assert (told["max_concurrency"], told["started_at"]) == (start.get("max_concurrency"), at(start["timestamp"]))
    assert told["attempts"] == sum(map(len, attempts))
    assert told["ended_at"] == (None if ended_us is None else at(ended_us))
    assert told["work_ms"] == near(sum(work))
    assert told["slowest_ms"] == (near(max(work)) if work else None)
    assert told["median_ms"] == (near(statistics.median(work)) if work else None)
    wall_ms = None if ended_us is None else (ended_us - start["timestamp"]) / 1000
    assert told["wall_ms"] == wall_ms
    speedup = sum(work) / wall_ms if wall_ms and work else None
    assert told["speedup"] == (None if speedup is None else near(speedup))
    width = min(start["count"], start.get("max_concurrency") or start["count"])
    assert told["efficiency"] == (None if speedup is None else near(speedup / width))
    nine_of_ten = ends[-(-9 * len(ends) // 10) - 1] if ends else None
    assert told["tail_ms"] == (None if ended_us is None or nine_of_ten is None else (ended_us - nine_of_ten) / 1000)


# --- critical path -------------------------------------------------------------------------------------------------


def check_path(found: Rows, history: History) -> None:
    """It is a chain of tokens from the first row to the last, each of which began when the one before it ended."""
    if not found:
        assert not any(life.ended and life.status != "cancelled" for life in history.lives.values())
        return
    assert [row["step"] for row in found] == list(range(1, len(found) + 1))
    assert sum(row["total_ms"] for row in found) == near(history.duration_ms)
    lives = [history.lives[row["token_id"]] for row in found]
    assert lives[0].created["timestamp"] == history.rows[0]["timestamp"]
    for (row, life), (_, following) in pairwise(zip(found, lives, strict=True)):
        handed_over_us = following.created["timestamp"]
        assert row["total_ms"] == (handed_over_us - life.created["timestamp"]) / 1000
        assert is_cause(life.token.id, following.token.id, history)
    for row, life in zip(found, lives, strict=True):
        mine = [a for a in history.attempts if a.token_id == life.token.id]
        assert (row["node_id"], row["began_at"], row["attempts"]) == (
            life.token.node_id,
            at(life.created["timestamp"]),
            len(mine),
        )
        assert row["run_ms"] == near(sum(a.spent_ms for a in mine))
        assert row["queue_ms"] == near(sum(queued_ms(a) for a in mine))
        assert row["other_ms"] == near(row["total_ms"] - row["run_ms"] - row["queue_ms"])
        assert row["share"] == (near(row["total_ms"] / history.duration_ms) if history.duration_ms else None)


def is_cause(cause: str, effect: str, history: History) -> bool:
    """Whether a token's end made another one: its parent, or one whose end in the same turn let a join fire."""
    tokens = history.state.tokens
    if tokens[effect].parent_id == cause:
        return True
    ended, created = history.lives[cause].ended, history.lives[effect].created
    return ended is not None and ended["turn"] == created["turn"] and ended["sequence_number"] < created["sequence_number"]
