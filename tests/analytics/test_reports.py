"""Every figure of the ready reports, against the same figure computed in Python from the folded rows."""

from __future__ import annotations

import datetime as dt
import statistics
import tempfile
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.analytics.histories import Measured, crawl, flaky_fetch, run_id, store
from tests.analytics.reference import Attempt, History, at
from tests.cases.words import all_of, append, edge, workflow
from tests.planning.graphs import nested
from tests.test_fold import actions
from wonder_ray.analytics.events import Events
from wonder_ray.analytics.reports import REPORTS
from wonder_ray.errors import QueryError, RunNotFoundError
from wonder_ray.state import TERMINAL_RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.core import CoreRun
    from wonder_ray.definitions.models import WorkflowDefinition

RUNS: Final = {
    run_id(1): ("default", "crawl", 1),
    run_id(2): ("default", "crawl", 2),
    run_id(3): ("lab", "crawl", 0),
    run_id(4): ("lab", "other", 3),
}
"""Run -> workspace, workflow, how often its first fetch fails."""


@pytest.fixture(scope="module")
def cores() -> dict[str, CoreRun]:
    return {run: Measured(crawl(), {"fetch": flaky_fetch(attempts=n)}, room=1 + n).run() for run, (_, _, n) in RUNS.items()}


@pytest.fixture(scope="module")
def histories(cores: dict[str, CoreRun]) -> dict[str, History]:
    return {run: History(core.rows) for run, core in cores.items()}


@pytest.fixture(scope="module")
def events(cores: dict[str, CoreRun], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Events]:
    storage = tmp_path_factory.mktemp("reports")
    for run, (workspace, flow, _) in RUNS.items():
        store(storage, {run: cores[run]}, workspace_id=workspace, workflow_name=flow)
    found = Events(storage)
    yield found
    found.close()


def grouped(
    histories: dict[str, History], key: Callable[[str, Attempt], Any], runs: Iterable[str] = tuple(RUNS)
) -> dict[Any, list[Attempt]]:
    """The attempts of some runs by a key."""
    groups: dict[Any, list[Attempt]] = defaultdict(list)
    for run in runs:
        for attempt in histories[run].attempts:
            groups[key(run, attempt)].append(attempt)
    return groups


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


# --- cost ----------------------------------------------------------------------------------------------------------


def check_cost(found: list[dict[str, Any]], histories: dict[str, History], runs: Iterable[str] = tuple(RUNS)) -> None:
    groups = grouped(histories, lambda run, a: (RUNS[run][0], RUNS[run][1], a.node_id), runs)
    assert {(row["workspace_id"], row["workflow_name"], row["node_id"]) for row in found} == set(groups)
    assert len(found) == len(groups)
    for row in found:
        attempts = groups[row["workspace_id"], row["workflow_name"], row["node_id"]]
        assert row["attempts"] == len(attempts)
        assert row["tokens"] == sum(a.end.get("tokens") or 0 for a in attempts)
        assert row["cost_usd"] == near(sum(a.end.get("cost_usd") or 0 for a in attempts))
        assert row["wasted_usd"] == near(sum(a.end.get("cost_usd") or 0 for a in attempts if a.outcome != "completed"))
        assert row["run_ms"] == near(sum(a.end.get("duration_ms") or 0 for a in attempts))


def test_cost_adds_up_by_workspace_workflow_and_node(events: Events, histories: dict[str, History]) -> None:
    found = events.report("cost").dicts()
    check_cost(found, histories)
    assert sum(row["wasted_usd"] for row in found) > 0
    assert [row["cost_usd"] for row in found] == sorted((row["cost_usd"] for row in found), reverse=True)


def test_cost_agrees_with_a_plain_pyarrow_reader(events: Events) -> None:
    raw = ds.dataset(events.storage / "events", partitioning="hive").to_table()
    paid = raw.filter(pc.is_valid(raw["cost_usd"])).group_by(["workspace_id", "workflow_name", "node_id"])
    meant = {tuple(row[:3]): row[3:] for row in rows_of(paid.aggregate([("cost_usd", "sum"), ("tokens", "sum")]))}
    names = ("workspace_id", "workflow_name", "node_id", "cost_usd", "tokens")
    found = {tuple(row[name] for name in names[:3]): row for row in events.report("cost").dicts() if row["tokens"]}
    assert set(found) == set(meant)
    for key, (cost, tokens) in meant.items():
        assert (found[key]["cost_usd"], found[key]["tokens"]) == (near(cost), tokens)


def rows_of(table: pa.Table) -> list[list[Any]]:
    return [list(row.values()) for row in table.to_pylist()]


# --- queue ---------------------------------------------------------------------------------------------------------


def test_queue_time_and_run_time_by_node(events: Events, histories: dict[str, History]) -> None:
    found = events.report("queue").dicts()
    groups = grouped(histories, lambda run, a: (RUNS[run][1], a.node_id))
    assert {(row["workflow_name"], row["node_id"]) for row in found} == set(groups)
    assert any(row["queue_ms_total"] for row in found)
    for row in found:
        attempts = groups[row["workflow_name"], row["node_id"]]
        queues = [(a.dispatched_us - a.ready_us) / 1000 for a in attempts]
        runs = [a.end["duration_ms"] for a in attempts if "duration_ms" in a.end]
        opens = [a.open_ms or 0 for a in attempts]
        assert row["attempts"] == len(attempts)
        assert row["queue_ms_median"] == near(statistics.median(queues))
        assert row["run_ms_median"] == near(statistics.median(runs))
        assert row["queue_ms_p95"] == near(interpolated(queues, 0.95))
        assert row["run_ms_p95"] == near(interpolated(runs, 0.95))
        assert row["queue_ms_total"] == near(sum(queues))
        assert row["run_ms_total"] == near(sum(runs))
        assert row["overhead_ms_total"] == near(sum(a.open_ms or 0 for a in attempts if "duration_ms" in a.end) - sum(runs))
        assert row["queue_share"] == near(sum(queues) / (sum(queues) + sum(opens)))


def interpolated(values: list[float], share: float) -> float:
    """A quantile between the two values next to it."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


# --- retries -------------------------------------------------------------------------------------------------------


def test_what_came_to_nothing_and_what_became_of_it(events: Events, histories: dict[str, History]) -> None:
    found = events.report("retries").dicts()
    everything = sum(a.spent_ms for history in histories.values() for a in history.attempts)
    groups: dict[Any, list[tuple[Attempt, list[Attempt]]]] = defaultdict(list)
    for run, history in histories.items():
        for attempt in history.attempts:
            if attempt.outcome not in {"completed", "open"}:
                same = sorted((a for a in history.attempts if a.token_id == attempt.token_id), key=lambda a: a.attempt)
                error_type = attempt.end.get("error", {}).get("type")
                groups[RUNS[run][1], attempt.node_id, attempt.outcome, error_type].append((attempt, same))
    assert {(r["workflow_name"], r["node_id"], r["outcome"], r["error_type"]) for r in found} == set(groups)
    for row in found:
        pairs = groups[row["workflow_name"], row["node_id"], row["outcome"], row["error_type"]]
        assert row["attempts"] == len(pairs)
        assert row["retried"] == sum(a.attempt < same[-1].attempt for a, same in pairs)
        assert row["recovered"] == sum(same[-1].outcome == "completed" for _, same in pairs)
        assert row["wasted_ms"] == near(sum(a.spent_ms for a, _ in pairs))
        assert row["wasted_tokens"] == sum(a.end.get("tokens") or 0 for a, _ in pairs)
        assert row["wasted_usd"] == near(sum(a.end.get("cost_usd") or 0 for a, _ in pairs))
        assert row["share_of_all_ms"] == near(row["wasted_ms"] / everything)
    failed = {r["workflow_name"]: (r["attempts"], r["retried"], r["recovered"]) for r in found if r["outcome"] == "failed"}
    assert failed == {"crawl": (3, 2, 1), "other": (2, 1, 0)}  # a page that fails twice has no attempt left
    assert {r["node_id"] for r in found if r["outcome"] == "cancelled"} != set()


# --- fan-outs ------------------------------------------------------------------------------------------------------


def check_fanouts(found: list[dict[str, Any]], history: History) -> None:
    starts = [row for row in history.rows if row["event_type"] == "fan_out.started"]
    assert len(found) == len(starts)
    for told, start in zip(found, starts, strict=True):
        joins = [r for r in history.rows if r["event_type"] == "fan_in.completed" and r["join_id"] == start.get("group_id")]
        branches = history.branches(start["fanout_id"])
        inside = {token for tokens in branches.values() for token in tokens}
        attempts = [a for a in history.attempts if a.token_id in inside]
        work = [history.work_of(tokens) for tokens in branches.values() if any(a.token_id in tokens for a in attempts)]
        ends = [a.ended_us for a in attempts if a.ended_us is not None]
        ended_us = joins[0]["timestamp"] if joins else max(ends, default=None)
        assert (told["node_id"], told["branches"], told["max_concurrency"]) == (
            start["node_id"],
            start["count"],
            start.get("max_concurrency"),
        )
        assert (told["started_at"], told["attempts"]) == (at(start["timestamp"]), len(attempts))
        assert told["ended_at"] == (None if ended_us is None else at(ended_us))
        assert told["work_ms"] == near(sum(work))
        if work and ended_us is not None:
            wall_ms = (ended_us - start["timestamp"]) / 1000
            assert (told["slowest_ms"], told["median_ms"]) == (near(max(work)), near(statistics.median(work)))
            assert told["wall_ms"] == wall_ms
            if wall_ms:
                width = min(start["count"], start.get("max_concurrency") or start["count"])
                assert told["speedup"] == near(sum(work) / wall_ms)
                assert told["efficiency"] == near(sum(work) / wall_ms / width)


def test_how_well_the_branches_of_a_fan_out_ran_beside_each_other(events: Events, histories: dict[str, History]) -> None:
    found = events.report("fanout").dicts()
    assert [row["workflow_run_id"] for row in found] == list(RUNS)
    for run, history in histories.items():
        check_fanouts([row for row in found if row["workflow_run_id"] == run], history)
    assert {(row["branches"], row["max_concurrency"]) for row in found} == {(3, 2)}


def test_a_fan_out_includes_those_inside_it_and_its_tail_is_what_one_branch_took_alone(storage: Path) -> None:
    definition = workflow(
        "begin outer inner sum end",
        edge("begin", "outer", spawn_count=10, group="outer"),
        edge("outer", "inner", spawn_count=2, group="inner"),
        edge("inner", "sum", join=all_of("inner")),
        edge("sum", "end", join=all_of("outer", append("state.all"))),
    )
    seconds = {"begin": 0.5, "outer": 1.0, "inner": 2.0, "sum": 0.5, "end": 0.1}

    def duration(token: Any) -> float:
        return 4.5 if (token.node_id, token.index) == ("sum", 9) else seconds[token.node_id]

    core = Measured(definition, durations=duration).run()
    events = Events(store(storage, {run_id(1): core}))
    outer, *inner = events.report("fanout").dicts()
    check_fanouts([outer, *inner], History(core.rows))
    assert (outer["branches"], len(inner)) == (10, 10)
    assert (outer["wall_ms"], outer["tail_ms"]) == (7500, 4000)
    assert outer["work_ms"] == near(900 * (10 * (1 + 2 * 2 + 0.5) + 4))
    assert {(row["wall_ms"], row["work_ms"], row["tail_ms"]) for row in inner} == {(2000, 3600, 0)}


# --- critical path -------------------------------------------------------------------------------------------------


def check_path(found: list[dict[str, Any]], history: History) -> None:
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
        assert row["queue_ms"] == near(sum((a.dispatched_us - a.ready_us) / 1000 for a in mine))
        assert row["other_ms"] == near(row["total_ms"] - row["run_ms"] - row["queue_ms"])
        assert row["share"] == (near(row["total_ms"] / history.duration_ms) if history.duration_ms else None)


def is_cause(cause: str, effect: str, history: History) -> bool:
    """Whether a token's end made another one: its parent, or one whose end in the same turn let a join fire."""
    tokens = history.state.tokens
    if tokens[effect].parent_id == cause:
        return True
    ended, created = history.lives[cause].ended, history.lives[effect].created
    return ended is not None and ended["turn"] == created["turn"] and ended["sequence_number"] < created["sequence_number"]


def test_the_critical_path_goes_over_the_slowest_branch(storage: Path) -> None:
    seconds = {"list": 1.0, "a": 2.0, "b": 3.0, "c": 5.0, "d": 4.0, "sum": 1.0, "aside": 0.5}
    definition = workflow(
        "list a b c d sum aside",
        edge("list", "a", group="g"),
        edge("list", "c", group="g"),
        edge("a", "b"),
        edge("b", "sum", join=all_of("g")),
        edge("c", "sum", join=all_of("g")),
        edge("sum", "d"),
        edge("sum", "aside"),
    )
    core = Measured(definition, durations=lambda token: seconds[token.node_id]).run()
    events = Events(store(storage, {run_id(1): core}))
    found = events.report("critical-path").dicts()
    check_path(found, History(core.rows))
    path = [row["node_id"] for row in found if row["total_ms"]]
    assert path in (["list", "a", "b", "sum", "d"], ["list", "c", "sum", "d"])  # both take five seconds
    assert sum(row["total_ms"] for row in found) == 11_000
    slower = Measured(definition, durations=lambda token: seconds[token.node_id] + (token.node_id == "b")).run()
    events = Events(store(storage, {run_id(2): slower}))
    assert [r["node_id"] for r in events.report("critical-path").dicts() if r["total_ms"]] == ["list", "a", "b", "sum", "d"]


def longest_chain(core: CoreRun, history: History) -> float:
    """With room for all: no chain of parents that the run consists of can take longer than the run."""
    best: dict[str, float] = {}
    for token in core.state.tokens.values():
        own = history.work_of([token.id])
        best[token.id] = own + best.get(token.parent_id or "", 0.0)
    return max(best.values())


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    definition=nested(3),
    seed=st.integers(0, 2**20),
    room=st.sampled_from([1, 3, 1000]),
    crash=st.sampled_from([None, 4]),
    steps=st.sampled_from([9, 150]),
)
def test_the_reports_of_any_run_agree_with_folding_it(
    definition: WorkflowDefinition, seed: int, room: int, crash: int | None, steps: int
) -> None:
    core = Measured(definition, actions(definition, seed), room=room, crash_at=crash, checked=False)
    core.start()
    for _ in range(steps):
        if not core.step():
            break
    history = History(core.rows)
    with tempfile.TemporaryDirectory() as folder:
        events = Events(store(Path(folder), {run_id(1): core}))
        check_fanouts(events.report("fanout").dicts(), history)
        path = events.report("critical-path").dicts()
        check_path(path, history)
        cost = events.report("cost").dicts()
        assert sum(row["cost_usd"] for row in cost) == near(sum(a.end.get("cost_usd") or 0 for a in history.attempts))
        assert sum(row["attempts"] for row in cost) == len(history.attempts)
        events.close()
    if room == 1000 and core.state.run.status in TERMINAL_RUN and crash is None:
        assert sum(row["total_ms"] for row in path) >= longest_chain(core, history) - 1e-6


# --- which runs ----------------------------------------------------------------------------------------------------


def test_reports_can_be_of_some_runs_only(events: Events, histories: dict[str, History]) -> None:
    second = run_id(2)
    check_cost(events.report("cost", run=second).dicts(), histories, [second])
    check_cost(events.report("cost", workflow="other").dicts(), histories, [run_id(4)])
    since = dt.datetime.fromtimestamp((0x0192F0C1A2B3 + 3) / 1000, dt.UTC)
    check_cost(events.report("cost", since=since).dicts(), histories, [run_id(3), run_id(4)])
    check_cost(events.report("cost", since=since.replace(tzinfo=None)).dicts(), histories, [run_id(3), run_id(4)])
    check_cost(events.report("cost", run="latest").dicts(), histories, [run_id(4)])
    check_cost(events.report("cost", run=second[:16]).dicts(), histories, [second])
    assert {row["workflow_run_id"] for row in events.report("critical-path").dicts()} == {run_id(4)}
    assert {row["workflow_run_id"] for row in events.report("critical-path", workflow="crawl").dicts()} == {run_id(3)}
    for name in REPORTS:
        assert len(events.report(name, workflow="nothing")) == 0


def test_a_report_or_run_that_is_not_there_is_named(events: Events) -> None:
    with pytest.raises(QueryError, match="no report 'costs'; there are cost, queue, retries, fanout, critical-path"):
        events.report("costs")
    with pytest.raises(RunNotFoundError, match="several runs begin with 'run_'"):
        events.report("cost", run="run_")
    with pytest.raises(RunNotFoundError, match="no run begins with 'x'"):
        events.report("cost", run="x")


def test_where_nothing_has_run_reports_are_empty(tmp_path: Path) -> None:
    events = Events(tmp_path / "nowhere")
    for name in REPORTS:
        assert events.report(name).rows == []
    with pytest.raises(RunNotFoundError, match="there are no runs"):
        events.report("cost", run="latest")
