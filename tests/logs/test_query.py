"""Reading: the specification's queries as they stand, beside a live writer, and nothing but reading."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wonder_ray.clock import SimulatedClock
from wonder_ray.errors import QueryError
from wonder_ray.logs.files import list_files
from wonder_ray.logs.query import LogReader
from wonder_ray.logs.record import LEVELS, SERVICES, LogLine
from wonder_ray.logs.service import LogService, ServiceLimits
from wonder_ray.logs.store import LogStore

if TYPE_CHECKING:
    from pathlib import Path

RUN = "run_xyz789"

# As they stand in the specification; the index is the one that has to serve each.
SPECIFIED = [
    pytest.param(
        "WHERE service = 'executor' AND level = 'error' AND timestamp > ?",
        (5,),
        lambda line: line.service == "executor" and line.level == "error" and line.timestamp > 5,
        "logs_service_level (service=? AND level=? AND timestamp>?)",
        id="service errors in last hour",
    ),
    pytest.param(
        "WHERE event_type = 'db_query_slow' AND json_extract(metadata, '$.duration_ms') > 1000",
        (),
        lambda line: line.event_type == "db_query_slow" and "2000" in (line.metadata or ""),
        "logs_event_type (event_type=?)",
        id="slow database queries",
    ),
    pytest.param(
        "WHERE trace_id = 'run_xyz789'",
        (),
        lambda line: line.trace_id == RUN,
        "logs_trace_id (trace_id=?)",
        id="all operations for a request trace",
    ),
    pytest.param(
        "WHERE event_type LIKE '%rpc%' AND level = 'error'",
        (),
        lambda line: "rpc" in line.event_type and line.level == "error",
        "logs_level (level=?)",
        id="rpc failures across services",
    ),
]


def varied_lines() -> list[LogLine]:
    """Every combination of what the specified queries look at."""
    lines: list[LogLine] = []
    for service in SERVICES:
        for level in LEVELS:
            for event_type in ("db_query_slow", "rpc_timeout", "do_rpc_failed", "request_received"):
                for metadata in (None, '{"duration_ms":2000}', '{"duration_ms":10}', '{"other":[1]}'):
                    n = len(lines)
                    trace_id = RUN if n % 3 == 0 else None
                    lines.append(
                        LogLine(
                            timestamp=n,
                            level=level,
                            service=service,
                            event_type=event_type,
                            message=f"line {n}",
                            trace_id=trace_id,
                            metadata=metadata,
                        )
                    )
    return lines


@pytest.fixture
def stored(storage: Path) -> list[LogLine]:
    """Varied lines, spread over several files of two instances."""
    lines = varied_lines()
    stores = [LogStore(storage / "logs", name, file_bytes_max=40_000) for name in ("a", "b")]
    for start in range(0, len(lines), 20):
        stores[start // 20 % 2].append(lines[start : start + 20], 0)
    for store in stores:
        store.close()
    assert len(list_files(storage / "logs")) >= 4
    return lines


@pytest.mark.parametrize(("where", "params", "expected", "plan"), SPECIFIED)
def test_the_specified_queries_run_as_they_stand(
    storage: Path, stored: list[LogLine], where: str, params: Any, expected: Any, plan: str
) -> None:
    reader = LogReader(storage)
    found = reader.sql(where, params)
    assert found == [line for line in stored if expected(line)]
    assert found
    assert reader.skipped == {}


@pytest.mark.parametrize(("where", "params", "expected", "plan"), SPECIFIED)
def test_the_specified_queries_are_served_by_an_index(
    storage: Path, stored: list[LogLine], where: str, params: Any, expected: Any, plan: str
) -> None:
    with closing(apsw.Connection(list_files(storage / "logs")[0].path)) as connection:
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN SELECT * FROM logs {where}", params)]
    assert steps == [f"SEARCH logs USING INDEX {plan}"]


def test_the_last_hour_is_served_by_the_index_on_time(storage: Path, stored: list[LogLine]) -> None:
    with closing(apsw.Connection(list_files(storage / "logs")[0].path)) as connection:
        query = "EXPLAIN QUERY PLAN SELECT * FROM logs WHERE timestamp > ? ORDER BY timestamp DESC, id DESC LIMIT 9"
        steps = [row[3] for row in connection.execute(query, (1,))]
    assert steps == ["SEARCH logs USING INDEX logs_timestamp (timestamp>?)"]


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({"service": "http"}, lambda line: line.service == "http"),
    ({"level": "warning"}, lambda line: line.level in {"warning", "error", "critical"}),
    ({"level": "debug"}, lambda line: True),
    ({"level": "info"}, lambda line: line.level != "debug"),
    ({"event_type": "rpc_timeout"}, lambda line: line.event_type == "rpc_timeout"),
    ({"event_type": "%rpc%"}, lambda line: "rpc" in line.event_type),
    ({"event_type": "do_%"}, lambda line: line.event_type == "do_rpc_failed"),
    ({"event_type": "d__rpc%"}, lambda line: False),
    ({"trace_id": RUN, "service": "logs"}, lambda line: line.trace_id == RUN and line.service == "logs"),
    ({"since_us": 7, "until_us": 11}, lambda line: 7 <= line.timestamp < 11),
    ({"text": "LINE 47"}, lambda line: "line 47" in line.message),
    ({"text": "100%"}, lambda line: False),
    ({"token_id": "t"}, lambda line: False),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_search_finds_what_its_filters_say(storage: Path, stored: list[LogLine], filters: dict[str, Any], expected: Any) -> None:
    reader = LogReader(storage)
    wanted = [line for line in stored if expected(line)]
    assert reader.search(**filters, newest_first=False) == wanted
    assert reader.search(**filters) == wanted[::-1]
    assert reader.search(**filters, limit=3) == wanted[::-1][:3]
    assert reader.search(**filters, limit=3, newest_first=False) == wanted[:3]


def test_ids_and_stacks_are_searched(storage: Path, make_line: Any) -> None:
    store = LogStore(storage / "logs", "a")
    names = ("node_id", "token_id", "request_id", "workspace_id", "project_id")
    store.append([make_line(n, **{name: "wanted"}) for n, name in enumerate(names)], 0)
    store.append([make_line(9, error_stack="ValueError: 100% of_it")], 0)
    store.close()
    reader = LogReader(storage)
    for n, name in enumerate(names):
        filters: dict[str, Any] = {name: "wanted"}
        assert [line.timestamp for line in reader.search(**filters)] == [n]
    assert [line.timestamp for line in reader.search(text="100% of_")] == [9]
    assert reader.search(text="100_") == []


def test_the_word_where_may_be_left_out(storage: Path, stored: list[LogLine]) -> None:
    reader = LogReader(storage)
    assert reader.sql("level = :level", {"level": "error"}) == reader.sql("\n where level = ?", ("error",))


HOSTILE = [
    "1; DELETE FROM logs",
    "1); DELETE FROM logs; --",
    "1); DROP TABLE logs; --",
    "1); PRAGMA writable_schema = 1; --",
    "1); ATTACH '/tmp/x' AS x; --",
    "1); SELECT 1; --",
    "1) UNION SELECT * FROM pragma_table_info('logs') --",
    "load_extension('x')",
    "id IN (WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r)",
    "",
    "nosuch = 1",
    "timestamp > ?",
    "TRUE ORDER BY timestamp",
]


@pytest.mark.parametrize("where", HOSTILE)
@pytest.mark.parametrize("with_files", [True, False])
def test_conditions_that_are_none_are_refused(storage: Path, make_line: Any, where: str, with_files: bool) -> None:
    store = LogStore(storage / "logs", "a")
    store.append([make_line()] if with_files else [], 0)
    store.close()
    reader = LogReader(storage)
    with pytest.raises(QueryError, match="on logs"):
        reader.sql(where)
    assert len(reader.sql("TRUE")) == with_files


def test_a_condition_that_fails_on_some_line_says_so(storage: Path, stored: list[LogLine]) -> None:
    with pytest.raises(QueryError, match="malformed JSON"):
        LogReader(storage).sql("json_extract(message, '$.a') = 1")


def test_a_condition_cannot_take_all_memory(storage: Path, stored: list[LogLine]) -> None:
    with pytest.raises(QueryError, match="too big"):
        LogReader(storage).sql("length(randomblob(1000000000)) > 1")


def test_a_query_that_takes_too_long_is_ended(storage: Path, stored: list[LogLine]) -> None:
    endless = "(SELECT count(*) FROM logs a, logs b, logs c, logs d, logs e, logs f) > 0"
    with pytest.raises(QueryError, match="too long"):
        LogReader(storage, seconds_max=0.05).sql(endless)


@pytest.mark.parametrize("params", [(object(),), (1, 2), {"n": 1}, ()])
def test_parameters_that_do_not_fit_are_refused(storage: Path, params: Any) -> None:
    if isinstance(params, dict):
        assert LogReader(storage).sql("timestamp > :n", params) == []
        return
    with pytest.raises(QueryError):
        LogReader(storage).sql("timestamp > ?", params)


def test_files_that_cannot_be_read_are_left_out_and_named(storage: Path, stored: list[LogLine]) -> None:
    torn = storage / "logs" / "z-2026-01-01-1.sqlite"
    torn.write_bytes(b"torn" * 5000)
    (storage / "logs" / "z-2026-01-01-2.sqlite").touch()  # its writer has only just made it
    reader = LogReader(storage)
    assert reader.sql("TRUE") == stored
    assert list(reader.skipped) == [str(torn)]


def test_without_logs_nothing_is_found(storage: Path) -> None:
    assert LogReader(storage).search() == []
    assert LogReader(storage / "nowhere").search() == []
    assert not (storage / "logs").exists()


def test_a_limit_of_nothing_finds_nothing(storage: Path, stored: list[LogLine]) -> None:
    assert LogReader(storage).search(limit=0) == []


def test_readers_work_beside_the_live_writer(storage: Path, make_line: Any) -> None:
    service = LogService(storage, "a", SimulatedClock(), limits=ServiceLimits(file_bytes_max=200_000, batch_lines_max=50))
    done = threading.Event()

    def write() -> None:
        for n in range(0, 5000, 10):
            service.write([make_line(k) for k in range(n, n + 10)])
        service.flush()
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reader, seen = LogReader(storage), 0
    while not done.is_set():
        found = [line.timestamp for line in reader.sql("TRUE")]
        assert found == list(range(len(found)))
        assert len(found) >= seen
        assert reader.skipped == {}
        seen = len(found)
    writer.join()
    assert len(reader.sql("TRUE")) == 5000
    assert service.close()


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """Lines whose times overlap between files, as those of several machines do."""
    storage = tmp_path_factory.mktemp("storage")
    times = [(n * 37) % 101 for n in range(300)]
    for k in range(3):
        store = LogStore(storage / "logs", f"i{k}")
        store.append([LogLine(timestamp=t, level="info", service="http", event_type="x", message=str(t)) for t in times[k::3]], 0)
        store.close()
    return storage, times


@settings(max_examples=40)
@given(limit=st.one_of(st.none(), st.integers(0, 400)), newest_first=st.booleans(), since=st.integers(0, 101))
def test_limits_over_files_that_overlap_in_time(
    shuffled: tuple[Path, list[int]], limit: int | None, newest_first: bool, since: int
) -> None:
    storage, times = shuffled
    found = LogReader(storage).search(since_us=since, limit=limit, newest_first=newest_first)
    expected = sorted((t for t in times if t >= since), reverse=newest_first)
    assert [line.timestamp for line in found] == expected[:limit]
