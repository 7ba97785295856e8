"""Every figure of the ready reports, against the same figure computed in Python from the folded rows."""

from __future__ import annotations

import datetime as dt
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.analytics.checks import Told, check_cost, check_fanouts, check_path, check_queue, check_reports, check_retries, near
from tests.analytics.histories import Measured, crawl, flaky_fetch, run_id, store
from tests.analytics.reference import History
from tests.cases.words import all_of, append, edge, workflow
from tests.planning.graphs import nested
from tests.test_fold import actions
from wonder_ray.analytics.events import Events
from wonder_ray.analytics.reports import REPORTS
from wonder_ray.definitions.models import ActionNode, Retry
from wonder_ray.errors import QueryError, RunNotFoundError
from wonder_ray.state import TERMINAL_RUN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.core import CoreRun
    from wonder_ray.definitions.models import WorkflowDefinition
    from wonder_ray.state import Token

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
def told(cores: dict[str, CoreRun]) -> dict[str, Told]:
    return {run: Told(*RUNS[run][:2], History(core.rows)) for run, core in cores.items()}


@pytest.fixture(scope="module")
def events(cores: dict[str, CoreRun], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Events]:
    storage = tmp_path_factory.mktemp("reports")
    for run, (workspace, flow, _) in RUNS.items():
        store(storage, {run: cores[run]}, workspace_id=workspace, workflow_name=flow)
    found = Events(storage)
    yield found
    found.close()


# --- cost ----------------------------------------------------------------------------------------------------------


def test_cost_adds_up_by_workspace_workflow_and_node(events: Events, told: dict[str, Told]) -> None:
    found = events.report("cost").dicts()
    check_cost(found, told)
    assert sum(row["wasted_usd"] for row in found) > 0


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


def test_queue_time_and_run_time_by_node(events: Events, told: dict[str, Told]) -> None:
    found = events.report("queue").dicts()
    check_queue(found, told)
    assert any(row["queue_ms_total"] for row in found)


# --- retries -------------------------------------------------------------------------------------------------------


def test_what_came_to_nothing_and_what_became_of_it(events: Events, told: dict[str, Told]) -> None:
    found = events.report("retries").dicts()
    check_retries(found, told)
    failed = {r["workflow_name"]: (r["attempts"], r["retried"], r["recovered"]) for r in found if r["outcome"] == "failed"}
    assert failed == {"crawl": (3, 2, 1), "other": (2, 1, 0)}  # a page that fails twice has no attempt left
    assert {r["node_id"] for r in found if r["outcome"] == "cancelled"} != set()


# --- fan-outs ------------------------------------------------------------------------------------------------------


def test_how_well_the_branches_of_a_fan_out_ran_beside_each_other(events: Events, told: dict[str, Told]) -> None:
    found = events.report("fanout").dicts()
    check_fanouts(found, told)
    assert [row["workflow_run_id"] for row in found] == list(RUNS)
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
        return {8: 1.5, 9: 4.5}.get(token.index, 0.5) if token.node_id == "sum" else seconds[token.node_id]

    core = Measured(definition, durations=duration).run()
    events = Events(store(storage, {run_id(1): core}))
    outer, *inner = events.report("fanout").dicts()
    check_fanouts([outer, *inner], {run_id(1): Told("default", "case", History(core.rows))})
    assert (outer["branches"], len(inner)) == (10, 10)
    assert (outer["wall_ms"], outer["tail_ms"]) == (7500, 3000)
    assert outer["work_ms"] == near(900 * (10 * (1 + 2 * 2 + 0.5) + 1 + 4))
    assert {(row["wall_ms"], row["work_ms"], row["tail_ms"]) for row in inner} == {(2000, 3600, 0)}


# --- critical path -------------------------------------------------------------------------------------------------


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


def some(token: Token, seed: int, among: int) -> int:
    """A number below `among`, always the same for an attempt."""
    return hashlib.blake2b(f"{token.id} {token.attempt} {seed}".encode(), digest_size=2).digest()[0] % among


def in_haste(definition: WorkflowDefinition, seed: int) -> WorkflowDefinition:
    """The same, with a timeout at some actions, which some of their attempts exceed; a few of them are tried again."""
    nodes = [
        n.model_copy(update={"timeout_s": 0.6, "retry": (Retry(max_attempts=2, backoff_s=0.1),) if n.retry else ()})
        if isinstance(n, ActionNode) and (number + seed) % 3 == 0
        else n
        for number, n in enumerate(definition.nodes)
    ]
    return definition.model_copy(update={"nodes": tuple(nodes)})


def drawn(data: st.DataObject, number: int) -> CoreRun:
    """A run of any definition: failing, timing out, being cancelled and lost; not every attempt tells what it used."""
    seed = data.draw(st.integers(0, 2**20), f"seed of run {number}")
    definition = in_haste(data.draw(nested(3), f"definition of run {number}"), seed)

    def used(token: Token, seconds: float) -> dict[str, Any]:
        paid: dict[str, Any] = {"cost_usd": round(seconds, 2)}
        tokens: dict[str, Any] = {"tokens": round(seconds * 100)}
        return [{}, paid, tokens, paid | tokens][some(token, seed, 4)]

    room, crash = data.draw(st.sampled_from([1, 3, 1000])), data.draw(st.sampled_from([None, 4, 9]))
    core = Measured(definition, actions(definition, seed), room=room, crash_at=crash, checked=False, used=used)
    core.start()
    for _ in range(data.draw(st.sampled_from([9, 150]))):
        if not core.step():
            break
    return core


PLACES: Final = (("default", "crawl"), ("lab", "crawl"), ("lab", "other"))
"""Workspace and workflow of each run that is drawn."""


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_all_figures_of_any_runs_agree_with_folding_their_events(data: st.DataObject) -> None:
    check_drawn(data)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_all_figures_of_many_runs_agree_with_folding_their_events(data: st.DataObject) -> None:
    check_drawn(data)


def check_drawn(data: st.DataObject) -> None:
    told: dict[str, Told] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (workspace, flow) in enumerate(PLACES[: data.draw(st.integers(1, 3), "runs")], 1):
            core = drawn(data, number)
            store(Path(folder), {run_id(number): core}, workspace_id=workspace, workflow_name=flow)
            told[run_id(number)] = Told(workspace, flow, History(core.rows))
        events = Events(folder)
        check_reports(events, told)
        check_reports(events, {run: each for run, each in told.items() if each.workflow == "crawl"}, workflow="crawl")
        check_reports(events, only(told, 1), run=run_id(1))
        check_sums(events)
        events.close()


def check_sums(events: Events) -> None:
    """What has to add up whatever happened: time of attempts, money of runs, and nobody works longer than the run takes."""
    for ready, ended, queue_ms, open_ms, run_ms in events.sql(
        "SELECT ready_at, ended_at, queue_ms, open_ms, run_ms FROM attempts WHERE ended_at IS NOT NULL"
    ):
        assert (ended - ready) / dt.timedelta(milliseconds=1) == near(queue_ms + open_ms)
        assert run_ms is None or run_ms <= open_ms + 1e-6
    paid = events.sql("SELECT coalesce(sum(cost_usd), 0) FROM runs").rows[0][0]
    assert paid == near(sum(row["cost_usd"] for row in events.report("cost").dicts()))
    for run, took_us in events.sql(
        "SELECT workflow_run_id, epoch_us(max(timestamp)) - epoch_us(min(timestamp)) FROM events GROUP BY 1"
    ):
        path = events.report("critical-path", run=run).dicts()
        assert sum(row["queue_ms"] + row["run_ms"] for row in path) <= took_us / 1000 + 1e-6


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(definition=nested(3), seed=st.integers(0, 2**20))
def test_with_room_for_all_no_chain_of_tokens_takes_longer_than_the_critical_path(
    definition: WorkflowDefinition, seed: int
) -> None:
    core = Measured(definition, actions(definition, seed), checked=False)
    core.start()
    for _ in range(150):
        if not core.step():
            break
    if core.state.run.status in TERMINAL_RUN:
        history = History(core.rows)
        with tempfile.TemporaryDirectory() as folder:
            events = Events(store(Path(folder), {run_id(1): core}))
            path = events.report("critical-path").dicts()
            check_path(path, history)
            assert sum(row["total_ms"] for row in path) >= longest_chain(core, history) - 1e-6
            events.close()


# --- which runs ----------------------------------------------------------------------------------------------------


def only(told: dict[str, Told], *numbers: int) -> dict[str, Told]:
    return {run_id(number): told[run_id(number)] for number in numbers}


def test_reports_can_be_of_some_runs_only(events: Events, told: dict[str, Told]) -> None:
    second = run_id(2)
    check_cost(events.report("cost", run=second).dicts(), {second: told[second]})
    check_cost(events.report("cost", workflow="other").dicts(), only(told, 4))
    since = dt.datetime.fromtimestamp((0x0192F0C1A2B3 + 3) / 1000, dt.UTC)
    check_cost(events.report("cost", since=since).dicts(), only(told, 3, 4))
    check_cost(events.report("cost", since=since.replace(tzinfo=None)).dicts(), only(told, 3, 4))
    check_cost(events.report("cost", run="latest").dicts(), only(told, 4))
    check_cost(events.report("cost", run=second[:16]).dicts(), {second: told[second]})
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
