"""`Events.sql`: what can be asked, how it is answered, and what cannot be done with it."""

from __future__ import annotations

import datetime as dt
import threading
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.analytics.histories import Measured, crawl, flaky_fetch, run_id, store
from tests.analytics.reference import at
from wonder_ray.analytics import database
from wonder_ray.analytics import events as module
from wonder_ray.analytics.events import TRIES, Events
from wonder_ray.analytics.result import Result
from wonder_ray.analytics.statements import completed
from wonder_ray.errors import QueryError, StorageError
from wonder_ray.events.schema import EVENT_SCHEMA, TRACE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.core import CoreRun

RUN = run_id(1)


@pytest.fixture(scope="module")
def core() -> CoreRun:
    return Measured(crawl(), {"fetch": flaky_fetch()}, trace=True).run()


@pytest.fixture
def events(core: CoreRun, storage: Path) -> Iterator[Events]:
    found = Events(store(storage, {RUN: core}))
    yield found
    found.close()


# --- answers -------------------------------------------------------------------------------------------------------


def test_both_datasets_are_views_with_the_columns_of_their_schemas_and_the_day(events: Events, core: CoreRun) -> None:
    found = events.sql("SELECT * FROM events ORDER BY sequence_number")
    assert found.columns == [*EVENT_SCHEMA.names, "date"]
    assert [row["event_type"] for row in found.dicts()] == [row["event_type"] for row in core.rows]
    assert found.dicts()[0]["timestamp"] == at(core.rows[0]["timestamp"])
    assert {row["date"] for row in found.dicts()} == {at(row["timestamp"]).date() for row in core.rows}
    traces = events.sql("FROM trace_events ORDER BY sequence_number")
    assert traces.columns == [*TRACE_SCHEMA.names, "date"]
    assert [row["event_type"] for row in traces.dicts()] == [row["event_type"] for row in core.traces]


def test_an_answer_can_be_taken_in_every_form(events: Events) -> None:
    found = events.sql("SELECT node_id, count(*) AS n, sum(tokens) AS used FROM attempts GROUP BY 1 ORDER BY 1")
    assert found.rows == list(found) == [tuple(row.values()) for row in found.dicts()]
    assert len(found) == len(found.rows) == found.arrow().num_rows
    assert found.columns == ["node_id", "n", "used"] == list(found.df().columns) == found.pl().columns
    assert found.df()["n"].tolist() == [n for _, n, _ in found]
    assert found.pl().rows() == found.rows
    assert all(isinstance(used, int) for _, _, used in found if used is not None)


def test_parameters_are_bound_by_place_and_by_name(events: Events, core: CoreRun) -> None:
    moment = at(core.rows[10]["timestamp"])
    expected = [(sum(row["timestamp"] > core.rows[10]["timestamp"] for row in core.rows),)]
    query = "SELECT count(*) FROM events WHERE workflow_run_id = {} AND timestamp > {}"
    for when in (moment, moment.replace(tzinfo=None), moment.isoformat(), moment.astimezone(dt.timezone(dt.timedelta(hours=5)))):
        assert events.sql(query.format("?", "?"), [RUN, when]).rows == expected
        assert events.sql(query.format("$run", "$since"), {"run": RUN, "since": when}).rows == expected
    assert events.sql(f"SELECT count(*) FROM events WHERE timestamp > '{moment:%Y-%m-%d %H:%M:%S.%f}'").rows == expected
    with pytest.raises(QueryError, match="parameter"):
        events.sql("SELECT ?", [])


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_times_are_utc_wherever_the_reader_is(events: Events, core: CoreRun, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    assert events.sql("SELECT current_setting('TimeZone')").rows == [("UTC",)]
    (text,) = events.sql("SELECT CAST(min(timestamp) AS VARCHAR) FROM events").rows[0]
    assert text.startswith(f"{at(core.rows[0]['timestamp']):%Y-%m-%d %H:%M:%S}")


def test_spans_and_moments_of_the_query_itself_need_no_further_library(events: Events) -> None:
    span, moment = events.sql("SELECT max(ended_at) - min(dispatched_at), now() FROM attempts").rows[0]
    assert isinstance(span, dt.timedelta)
    assert span > dt.timedelta(0)
    assert abs(moment - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)


def test_conditions_alone_are_about_events(events: Events, core: CoreRun) -> None:
    found = events.sql("\n where event_type LIKE 'token.%' ORDER BY sequence_number;")
    assert [row["event_type"] for row in found.dicts()] == [
        r["event_type"] for r in core.rows if r["event_type"].startswith("token.")
    ]
    grouped = events.sql("WHERE event_type = 'task.completed' GROUP BY workspace_id, node_id HAVING count(*) > 1 ORDER BY 2")
    assert grouped.columns == ["workspace_id", "node_id", "events", "tokens", "cost_usd", "duration_ms"]
    assert {row["node_id"]: row["events"] for row in grouped.dicts()} == {"fetch": 3, "free": 3}
    assert completed("SELECT 1") == "SELECT 1"


def test_a_query_may_describe_the_views(events: Events) -> None:
    names = {row[0] for row in events.sql("SHOW TABLES").rows}
    assert {"events", "trace_events", "runs", "attempts", "tokens"} <= names
    assert [row[0] for row in events.sql("DESCRIBE events").rows] == [*EVENT_SCHEMA.names, "date"]
    assert len(events.sql("SUMMARIZE attempts")) > 10
    assert events.sql("SELECT unnest([1, 2]) -- a comment").rows == [(1,), (2,)]


# --- the folder ----------------------------------------------------------------------------------------------------


def test_views_exist_with_their_types_where_there_are_no_files_and_fill_when_there_are(core: CoreRun, storage: Path) -> None:
    views = ("events", "trace_events", "runs", "attempts", "tokens")
    events = Events(storage / "to be")
    empty = {view: events.sql(f"DESCRIBE {view}").rows for view in views}
    assert all(len(events.sql(f"FROM {view}")) == 0 for view in views)
    store(storage / "to be", {RUN: core})
    assert all(len(events.sql(f"FROM {view}")) > 0 for view in views)
    assert {view: events.sql(f"DESCRIBE {view}").rows for view in views} == empty
    for path in (storage / "to be").rglob("*.parquet"):
        path.unlink()
    assert all(len(events.sql(f"FROM {view}")) == 0 for view in views)


def test_a_folder_may_have_any_name(core: CoreRun, tmp_path: Path) -> None:
    odd = store(tmp_path / "it's [odd] *{a}? $x 'é", {RUN: core})
    assert Events(odd).sql("SELECT count(*) FROM events").rows == [(len(core.rows),)]


def test_files_of_a_later_version_with_more_columns_are_read_beside_older_ones(
    core: CoreRun, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(storage, {RUN: core})
    (old,) = (storage / "events").rglob("*.parquet")
    table = pq.read_table(old).append_column(pa.field("region", pa.string()), pa.array(["eu"] * len(core.rows)))
    pq.write_table(table, old.with_name("newer.parquet"))
    assert Events(storage).sql("SELECT count(*) FROM events").rows == [(2 * len(core.rows),)]
    monkeypatch.setattr(database, "SCHEMA_VERSION", 2)
    later = EVENT_SCHEMA.append(pa.field("region", pa.string()))
    monkeypatch.setattr(database, "schema_of", lambda stream: later if stream == "events" else TRACE_SCHEMA)
    both = Events(storage).sql("SELECT region, count(*) FROM events GROUP BY 1 ORDER BY 1 NULLS FIRST").rows
    assert both == [(None, len(core.rows)), ("eu", len(core.rows))]


def test_queries_beside_a_writer_that_replaces_files_find_every_row_once(core: CoreRun, storage: Path) -> None:
    """Whole days are swapped, as compaction does it: a file that was listed may be gone when it is opened."""
    events = Events(storage)
    for n in range(8):
        store(storage, {run_id(n): core})
    rows = len(core.rows) * 8
    (day,) = (storage / "events").iterdir()
    swaps, ended = [0], threading.Event()

    def swap() -> None:
        while not ended.is_set():
            fresh = storage / f"aside-{swaps[0]}"
            fresh.mkdir()
            for path in sorted(day.iterdir()):
                pq.write_table(pq.read_table(path, partitioning=None), fresh / f"{path.name.split('.')[0]}.{swaps[0]}.parquet")
            exchange(fresh, day)
            for path in fresh.iterdir():
                path.unlink()
            swaps[0] += 1

    writer = threading.Thread(target=swap)
    writer.start()
    try:
        for _ in range(60):
            assert events.sql("SELECT count(*), count(DISTINCT (workflow_run_id, sequence_number)) FROM events").rows == [
                (rows, rows)
            ]
            assert events.sql("SELECT count(*) FROM runs").rows == [(8,)]
    finally:
        ended.set()
        writer.join()
    assert swaps[0] > 1


def exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step (renameat2 with RENAME_EXCHANGE)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    here = -100
    assert libc.renameat2(here, bytes(one), here, bytes(other), 2) == 0, ctypes.get_errno()


@pytest.mark.parametrize("misses", [TRIES - 1, TRIES])
def test_a_query_is_made_again_when_a_file_has_vanished_under_it(
    events: Events, misses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched, tries = module._fetched, [0]

    def fetch(*given: Any) -> pa.Table:
        tries[0] += 1
        if tries[0] <= misses:
            raise duckdb.IOException('Cannot open file "1.parquet": No such file or directory')
        return fetched(*given)

    monkeypatch.setattr(module, "_fetched", fetch)
    if misses == TRIES:
        with pytest.raises(StorageError, match=r"cannot be read: .*1\.parquet.*wonder doctor"):
            events.sql("SELECT 1")
    else:
        assert events.sql("SELECT 1").rows == [(1,)]
    assert tries == [TRIES]


def test_a_torn_file_is_an_error_of_the_storage_that_names_it(events: Events) -> None:
    (path,) = (events.storage / "events").rglob("*.parquet")
    path.with_name("torn.parquet").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StorageError, match=r"cannot be read: (.|\n)*torn\.parquet"):
        events.sql("FROM events")


def test_what_is_to_happen_before_a_query_happens(storage: Path) -> None:
    asked: list[str] = []
    events = Events(storage, before=lambda: asked.append("flush"))
    events.sql("SELECT 1")
    events.report("cost")
    assert asked == ["flush", "flush"]


def test_several_threads_may_ask_at_the_same_time(events: Events, core: CoreRun) -> None:
    answers: list[Any] = []

    def ask() -> None:
        answers.extend(events.sql("SELECT count(*) FROM events").rows[0] for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(len(core.rows),)] * 40
    events.close()
    assert events.sql("SELECT count(*) FROM runs").rows == [(1,)]


# --- what cannot be asked ------------------------------------------------------------------------------------------


@pytest.fixture
def outside(storage: Path) -> Path:
    """Files beside the datasets that nobody may see."""
    secret = storage / "runs" / "secret.csv"
    secret.parent.mkdir()
    secret.write_text("password\nhunter2\n")
    return secret


WRITING_CTE = "WITH t AS MATERIALIZED (COPY (SELECT 1) TO '{events}/new.parquet') SELECT * FROM t"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet('{events}/*/*.parquet')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT (SELECT max(content) FROM read_text('{secret}'))",
        "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')",
        "SELECT * FROM duckdb_settings()",
        "COPY events TO '{events}/new.parquet'",
        "COPY (SELECT 1) TO '/tmp/new.parquet'",
        "EXPORT DATABASE '{events}'",
        "ATTACH '{events}/new.db'",
        WRITING_CTE,
        "SELECT 1; " + WRITING_CTE,
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "CREATE TABLE copied AS SELECT * FROM events",
        "CREATE OR REPLACE VIEW events AS SELECT 1",
        "DROP VIEW events",
        "DELETE FROM events",
        "INSERT INTO events SELECT * FROM events",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA database_list",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{events}/new.parquet'",
        "BEGIN",
        "SELECT 1) UNION ALL (SELECT 2",
        "SELECT * FROM core",
        "",
        "SELECT",
    ],
)
def test_a_query_only_reads_and_only_the_views(events: Events, outside: Path, query: str) -> None:
    before = sorted(outside.parents[1].rglob("*"))
    with pytest.raises(QueryError):
        events.sql(query.format(secret=outside, events=events.storage / "events"))
    assert sorted(outside.parents[1].rglob("*")) == before


def test_the_database_itself_is_locked_even_if_the_check_of_queries_were_not_there(events: Events, outside: Path) -> None:
    with events._cursor() as cursor:
        for query in (
            f"SELECT * FROM read_csv('{outside}')",
            "SELECT * FROM read_text('/etc/passwd')",
            "COPY (SELECT 1) TO '/tmp/new.parquet'",
            f"ATTACH '{outside.parent}/new.db'",
            "SET enable_external_access = true",
            "SET allowed_directories = ['/']",
            "INSTALL httpfs",
            "SELECT * FROM enable_logging(storage = 'file', storage_path = '/tmp/logs')",
        ):
            with pytest.raises(duckdb.Error):
                cursor.execute(query)
    # As a subquery, in which it is run, a statement cannot write, even where writing is not locked.
    with events._cursor() as cursor, pytest.raises(duckdb.Error, match="top level"):
        cursor.sql(f"SELECT * FROM ({WRITING_CTE.format(events=events.storage / 'events')})").fetchall()
    assert [path.name for path in (events.storage / "events").iterdir()] != []
    assert not list((events.storage / "events").rglob("new.*"))


def test_variables_of_this_process_are_no_tables(events: Events) -> None:
    frame = pa.table({"a": [1]})
    with pytest.raises(QueryError, match="frame"):
        events.sql("SELECT * FROM frame")
    assert frame.num_rows == 1


def test_a_query_that_takes_too_long_is_stopped(events: Events) -> None:
    with pytest.raises(QueryError, match=r"took longer than 0\.2 s"):
        events.sql("SELECT count(*) FROM range(1000000000000) AS t(n) WHERE n % 7 = 3", seconds_max=0.2)
    assert events.sql("SELECT 1").rows == [(1,)]


def test_a_wrong_query_is_quoted_with_what_is_wrong_in_it(events: Events) -> None:
    with pytest.raises(QueryError, match=r"nodeid(.|\n)*in: SELECT nodeid FROM events"):
        events.sql("SELECT nodeid FROM events")


# --- results -------------------------------------------------------------------------------------------------------


def test_a_result_prints_aligned_and_cut_and_harmless() -> None:
    table = pa.table(
        {"name": ["a", "b\x1b[31m" + "x" * 100], "n": [1.5, 12345.678], "at": [None, dt.datetime(2026, 11, 23, tzinfo=dt.UTC)]}
    )
    lines = str(Result(table)).splitlines()
    assert lines[0].split() == ["name", "n", "at"]
    assert "\x1b" not in lines[2]
    assert lines[2].split()[0].endswith("…")
    assert lines[2].endswith("12,345.7  2026-11-23 00:00:00.000")
    assert lines[1].index("1.5") > lines[1].index("a")
    many = Result(pa.table({"n": list(range(100))}))
    assert str(many).splitlines()[-1] == "... 60 more rows"
    assert len(many.text(None).splitlines()) == 101
    assert "<td>0</td>" in many._repr_html_()
    assert "60 more rows" in many._repr_html_()
    assert "<b>" not in Result(pa.table({"x": ["<b>"]}))._repr_html_()


def test_a_result_keeps_what_cannot_be_made_plainer() -> None:
    huge, months = 10**30, pa.MonthDayNano([1, 0, 0])
    table = pa.table({"sum": pa.array([huge, None], pa.decimal128(38, 0)), "span": pa.array([months, None])})
    assert Result(table).rows == [(huge, months), (None, None)]
    plainer = Result(pa.table({"sum": pa.array([3, None], pa.decimal128(38, 0))})).arrow()
    assert plainer.schema.field("sum").type == pa.int64()
