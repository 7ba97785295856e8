"""The section "Query Patterns": its queries as they stand, over what real services have written.

Events: `Events.sql` over the Parquet files of a real event service. The run id `run_xyz789` of the specification's text is
replaced by that of the run (ids of runs are made by the system); logs are asked for it as it stands.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow.dataset as pds
import pytest

from tests.core import RUN_ID, CoreRun
from tests.spec.docs import decision_classes, tag_of
from tests.spec.flows import PAGES, boom, crawl, one_node
from wonder_ray.analytics.events import Events
from wonder_ray.clock import SimulatedClock
from wonder_ray.coordinator import coordinator as coordinator_module
from wonder_ray.events.service import EventService
from wonder_ray.events.wire import EventBatch, RunInfo
from wonder_ray.executor.protocol import ErrorInfo
from wonder_ray.fold import fold
from wonder_ray.logs.client import LogClient
from wonder_ray.logs.query import LogReader
from wonder_ray.logs.service import LogService
from wonder_ray.planning.facts import TaskErrored, TaskFact, TaskSucceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.spec.conftest import NewWorld
    from wonder_ray.state import Token

OTHER_RUN: Final = "run_0192f0c1a2b4_0123456789abcdef"
XYZ: Final = "run_xyz789"

HISTORY: Final = "WHERE workflow_run_id = 'run_xyz789' ORDER BY sequence_number"
COST: Final = """
WHERE event_type IN ('task.dispatched', 'task.completed', 'task.failed')
  AND timestamp > ?
  GROUP BY workspace_id
"""
FAN_OUT: Final = """
WHERE event_type IN ('fan_out.started', 'fan_in.completed')
  AND workflow_run_id = 'run_xyz789'
"""
CONTEXT: Final = """
WHERE event_type IN ('context.updated', 'context.output_applied')
  AND workflow_run_id = 'run_xyz789'
  ORDER BY sequence_number
"""
TOKENS: Final = """
WHERE event_type LIKE 'token.%'
  AND workflow_run_id = 'run_xyz789'
  ORDER BY sequence_number
"""

ERRORS: Final = "WHERE service = 'executor' AND level = 'error' AND timestamp > ?"
SLOW: Final = "WHERE event_type = 'db_query_slow' AND json_extract(metadata, '$.duration_ms') > 1000"
TRACE: Final = "WHERE trace_id = 'run_xyz789'"
RPC: Final = "WHERE event_type LIKE '%rpc%' AND level = 'error'"


def token_rows(run: CoreRun) -> int:
    return sum(row["event_type"].startswith("token.") for row in run.rows)


class Paid(CoreRun):
    """A run whose every attempt costs a quarter of a dollar and 100 tokens."""

    def outcome(self, token: Token) -> TaskFact:
        fact = super().outcome(token)
        assert isinstance(fact, TaskSucceeded | TaskErrored)
        return msgspec.structs.replace(fact, cost_usd=0.25, tokens=100, duration_ms=5.0)


class Dataset:
    """Two runs in two workspaces, sealed in files, and a reader of these."""

    def __init__(self, storage: Path) -> None:
        self.good = Paid(crawl(), {"fetch": lambda value: value.upper()}, trace=True).run(PAGES)
        self.bad = Paid(one_node(), {"work": boom}, trace=True).run(1)
        with EventService(storage, clock=SimulatedClock()) as service:
            for run_id, workspace, core in ((RUN_ID, "default", self.good), (OTHER_RUN, "lab", self.bad)):
                info = RunInfo(run_id, workspace, "demo", run_id, None, "crawl", "v")
                service.open(run_id, 1, new=True)
                events, traces = core.lines, [msgspec.json.encode(row) for row in core.traces]
                for stream, lines in (("events", events), ("trace", traces)):
                    assert lines
                    batch = EventBatch(info, stream, 1, 1, len(lines), b"\n".join(lines))  # type: ignore[arg-type] # both are
                    assert [ack.outcome for ack in service.submit([batch])] == ["ok"]
        self.events = Events(storage)

    def ask(self, what: str, where: str, params: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        """The rows of `SELECT what FROM events <where>`."""
        return self.events.sql(f"SELECT {what} FROM events {where.replace(XYZ, RUN_ID)}", params).dicts()

    def types(self, where: str) -> list[str]:
        """The event types that a query finds."""
        return [row["event_type"] for row in self.ask("event_type", where)]


@pytest.fixture
def dataset(storage: Path) -> Iterator[Dataset]:
    found = Dataset(storage)
    yield found
    found.events.close()


# --- Events --------------------------------------------------------------------------------------------------------


def test_complete_execution_history_for_a_run(dataset: Dataset) -> None:
    whole = "* REPLACE (epoch_us(timestamp) AS timestamp, epoch_us(turn_now) AS turn_now)"
    rows = dataset.ask(whole, HISTORY)
    assert [row["sequence_number"] for row in rows] == list(range(1, len(dataset.good.rows) + 1))
    assert [row["event_type"] for row in rows] == [row["event_type"] for row in dataset.good.rows]
    assert {row["workflow_run_id"] for row in rows} == {RUN_ID}
    assert fold(RUN_ID, rows).durable() == dataset.good.state.durable()


@pytest.mark.parametrize(("seconds", "found"), [(-1, True), (0, False)])
def test_task_execution_cost_analysis(dataset: Dataset, seconds: int, found: bool) -> None:
    last_us = max(row["timestamp"] for core in (dataset.good, dataset.bad) for row in core.rows)
    since = datetime.fromtimestamp(last_us // 1_000_000 + seconds, UTC)
    what = "workspace_id, sum(cost_usd) AS cost, sum(tokens) AS tokens, count(*) FILTER (event_type = 'task.dispatched') AS sent"
    rows = dataset.ask(what, COST, (since,))
    rows.sort(key=lambda row: str(row["workspace_id"]))
    paid = [
        {"workspace_id": "default", "cost": 1.25, "tokens": 500, "sent": 5},
        {"workspace_id": "lab", "cost": 0.25, "tokens": 100, "sent": 1},
    ]
    assert rows == (paid if found else [])


def test_fan_out_performance(dataset: Dataset) -> None:
    assert sorted(dataset.types(FAN_OUT)) == ["fan_in.completed", "fan_out.started"]


def test_context_modifications_over_time(dataset: Dataset) -> None:
    assert dataset.types(CONTEXT) == ["context.output_applied", "context.updated"]


def test_token_lifecycle_tracking(dataset: Dataset) -> None:
    rows = dataset.ask("event_type, token_id, sequence_number", TOKENS)
    expected = [row for row in dataset.good.rows if row["event_type"].startswith("token.")]
    assert [row["sequence_number"] for row in rows] == [row["sequence_number"] for row in expected]
    first = rows[0]["token_id"]
    assert [row["event_type"] for row in rows if row["token_id"] == first] == ["token.created", "token.completed"]


def test_trace_events_are_a_dataset_of_their_own(dataset: Dataset, storage: Path) -> None:
    assert not {row["event_type"] for row in dataset.ask("event_type", "")} & {row["event_type"] for row in dataset.good.traces}
    traced = len(dataset.good.traces) + len(dataset.bad.traces)
    assert dataset.events.sql("SELECT count(*) FROM trace_events").rows == [(traced,)]
    assert pds.dataset(storage / "trace_events", partitioning="hive").count_rows() == traced


@pytest.mark.parametrize(
    ("query", "found"),
    [(HISTORY, lambda good: len(good.rows)), (FAN_OUT, lambda good: 2), (CONTEXT, lambda good: 2), (TOKENS, token_rows)],
)
def test_queries_of_events_run_as_they_are_written(dataset: Dataset, query: str, found: Callable[[CoreRun], int]) -> None:
    """With nothing before their WHERE; but for the run's id, which the specification's text cannot know."""
    assert len(dataset.events.sql(query)) == 0
    rows = dataset.events.sql(query.replace(XYZ, RUN_ID)).dicts()
    assert len(rows) == found(dataset.good)
    assert {row["workflow_run_id"] for row in rows} == {RUN_ID}


def test_the_cost_query_runs_as_it_is_written_and_totals_by_workspace(dataset: Dataset) -> None:
    since = datetime(2020, 1, 1, tzinfo=UTC)
    totals = {row["workspace_id"]: (row["cost_usd"], row["tokens"]) for row in dataset.events.sql(COST, [since]).dicts()}
    assert totals == {"default": (1.25, 500), "lab": (0.25, 100)}


# --- Decisions -----------------------------------------------------------------------------------------------------


def test_decisions_are_never_stored(new_world: NewWorld, storage: Path) -> None:
    world = new_world({"list": lambda value: value, "fetch": lambda value: value, "report": lambda value: value})
    world.run(crawl(), PAGES, trace=False)
    assert world.events()[-1] == "workflow.completed"
    names = [tag_of(kind).encode() for kind in decision_classes()]
    sent = b"".join(batch.lines for batch in world.batches)
    written = b"".join(path.read_bytes() for path in sorted(storage.rglob("*")) if path.is_file())
    assert b"workflow.started" in sent
    assert b"crawl" in written
    assert [name for name in names if name in sent or name in written] == []


# --- Logs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(new_world: NewWorld, storage: Path, monkeypatch: pytest.MonkeyPatch) -> LogReader:
    """The log store after a run with a slow disk, whose task was lost once and then failed."""
    ticks = count(step=1.5)
    monkeypatch.setattr(coordinator_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    world = new_world({"work": boom})
    world.queue(one_node(), 1)
    with world.opened() as coordinator:
        world.lose(ErrorInfo("WorkerCrashedError", "the worker died", retryable=True, kind="lost"))
        world.finish(coordinator)
    lines = world.lines
    stranger = LogClient(lines.extend, "http", clock=world.clock)  # whose trace id is the specification's
    stranger.info("request_received", "GET /runs/run_xyz789", trace_id=XYZ)
    stranger.error("request_failed", "no such run", trace_id=XYZ)
    assert stranger.close()
    service = LogService(storage, "test", world.clock)
    assert service.write(lines) == len(lines)
    assert service.close()
    return LogReader(storage)


def told(reader: LogReader, where: str, params: tuple[Any, ...] = ()) -> list[tuple[str, str, str]]:
    return [(line.service, line.level, line.event_type) for line in reader.sql(where, params)]


def test_service_errors_in_last_hour(reader: LogReader) -> None:
    (failed,) = reader.search(event_type="action_failed")
    hour_ago = failed.timestamp - 3_600_000_000
    assert told(reader, ERRORS, (hour_ago,)) == [("executor", "error", "action_failed")]
    assert told(reader, ERRORS, (failed.timestamp,)) == []


def test_slow_database_queries(reader: LogReader) -> None:
    found = reader.sql(SLOW)
    assert {(line.service, line.event_type) for line in found} == {("coordinator", "db_query_slow")}
    assert all(msgspec.json.decode(line.metadata or "")["duration_ms"] > 1000 for line in found)
    assert len(found) == len(reader.search(event_type="db_query_slow"))


def test_all_operations_for_a_request_trace(reader: LogReader) -> None:
    assert told(reader, TRACE) == [("http", "info", "request_received"), ("http", "error", "request_failed")]
    (run_id,) = {line.trace_id for line in reader.search(event_type="run_start_received")}
    services = {line.service for line in reader.sql(TRACE.replace(XYZ, str(run_id)))}
    assert services == {"resources", "coordinator", "executor"}


def test_rpc_failures_across_services(reader: LogReader) -> None:
    assert told(reader, RPC) == [("coordinator", "error", "executor_rpc_failed")]
