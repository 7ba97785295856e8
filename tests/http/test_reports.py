"""Reports and SQL over HTTP: what a key may see, and what a hostile query comes to."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest

from tests.analytics.histories import Measured, crawl, flaky_fetch, run_id, store
from tests.http.world import Api
from tests.remote.carrying import InProcess
from wonder_ray.analytics.answering import Asked, answer
from wonder_ray.analytics.events import Events
from wonder_ray.analytics.reports import REPORTS
from wonder_ray.analytics.result import Result
from wonder_ray.confined import STARTING_SECONDS
from wonder_ray.errors import QueryError
from wonder_ray.http import backend, reports
from wonder_ray.remote import connect
from wonder_ray.values import decode, encode_trusted

MINE, THEIRS = run_id(1), run_id(2)
CANARY: Final = "canary-71c4-value"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """With the events of a run in each of two workspaces."""
    api = Api(tmp_path_factory.mktemp("storage"))
    core = Measured(crawl(), {"fetch": flaky_fetch()}, trace=True).run()
    store(api.storage, {MINE: core})
    store(api.storage, {THEIRS: core}, workspace_id="other", workflow_name="hidden")
    (api.storage / "secret.txt").write_text(CANARY)
    return api


@pytest.fixture(scope="module")
def everywhere(api: Api) -> str:
    """A key for all workspaces."""
    return api.new_key("events:read", workspace=None)


def rows(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["rows"]
    return found


# --- reports ---------------------------------------------------------------------------------------------------------------


def test_every_report_is_offered() -> None:
    assert get_args(get_args(reports.Name)[0]) == tuple(REPORTS)


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_the_one_that_the_storage_folder_gives(api: Api, name: str) -> None:
    """Of one workspace, byte for byte as `wonder report NAME --json` prints it."""
    here = Events(api.storage)
    expected = [decode(encode_trusted(row)) for row in here.report(name, run=MINE).dicts()]
    here.close()
    answer = api.call("GET", f"/v1/reports/{name}?run={MINE}")
    assert (rows(answer), bool(expected)) == (expected, True)
    assert answer.json()["columns"] == list(expected[0])


def test_a_report_sees_the_rows_of_the_workspace_that_the_key_is_for(api: Api, everywhere: str) -> None:
    def seen(**how: str) -> set[str]:
        return {row["workspace_id"] for row in rows(api.call("GET", "/v1/reports/cost", **how))}

    assert seen() == {"default"}
    assert seen(key=api.new_key("events:read", workspace="other")) == {"other"}
    assert seen(key=everywhere) == {"default", "other"}
    assert seen(key=everywhere, Wonder_Workspace="other") == {"other"}


@pytest.mark.parametrize("name", REPORTS)
def test_no_report_holds_a_row_of_another_workspace(api: Api, name: str) -> None:
    """Not even of a run that is named; asked of what the process does that answers it."""
    asked = Asked(storage=str(api.storage), report=name, workspace="default")
    told = answer(encode_trusted(asked)).decode()
    assert (THEIRS in told, "hidden" in told, len(decode(told)["rows"]) > 0) == (False, False, True)
    for workspace in ("default", "nobody", "x' OR '1'='1"):
        of_theirs = msgspec.structs.replace(asked, run=THEIRS, workspace=workspace)
        assert decode(answer(encode_trusted(of_theirs)))["rows"] == []


def test_a_report_is_narrowed(api: Api) -> None:
    assert rows(api.call("GET", "/v1/reports/cost?workflow=nobody")) == []
    assert rows(api.call("GET", f"/v1/reports/cost?since_us={2**51}")) == []
    assert rows(api.call("GET", "/v1/reports/critical-path?run=latest")) == rows(api.call("GET", "/v1/reports/critical-path"))
    unknown = api.call("GET", "/v1/reports/cost?run=run_9")
    assert (unknown.status_code, "the storage folder" in unknown.json()["detail"]) == (404, True)
    assert api.call("GET", "/v1/reports/nothing").status_code == 422


# --- SQL -------------------------------------------------------------------------------------------------------------------


def ask(api: Api, key: str, query: str, **more: Any) -> Any:
    return api.call("POST", "/v1/sql", {"query": query, **more}, key=key)


def test_sql_is_answered(api: Api, everywhere: str) -> None:
    query = "SELECT workspace_id, count(*) AS n, max(timestamp) AS last FROM events GROUP BY 1 ORDER BY 1"
    found = rows(ask(api, everywhere, query))
    assert [(row["workspace_id"], row["n"] > 10) for row in found] == [("default", True), ("other", True)]
    assert found[0]["last"].endswith("Z")
    assert rows(ask(api, everywhere, "SELECT $a + 1 AS b", params={"a": 1})) == [{"b": 2}]
    assert rows(ask(api, everywhere, "WHERE attempt > ?", params=[99])) == []


def test_an_api_key_of_one_workspace_cannot_ask_in_sql(api: Api) -> None:
    refused = ask(api, api.key, "SELECT 1")
    assert refused.status_code == 403
    assert "--all-workspaces" in refused.json()["detail"]


QUERIES: Final = [
    "SELECT * FROM attempts ORDER BY workflow_run_id, token_id, attempt",
    "SELECT timestamp, max(timestamp) OVER () - timestamp AS t, [1, 2] AS l, 1.5::DECIMAL(9, 2) AS d FROM events ORDER BY ALL",
    "SELECT 1 AS a, 2 AS a, 'x'::BLOB AS b, NULL AS n, INTERVAL 1 MONTH AS i, {'a': DATE '2026-01-01'} AS s",
    "DESCRIBE attempts",
    "WITH own AS (FROM events), two AS (SELECT count(*) AS n FROM own) SELECT n FROM two, (FROM two) AS again(m)",
]


def test_the_client_gives_the_results_of_the_one_on_ray(api: Api, everywhere: str) -> None:
    client, here = connect("http://test", api_key=everywhere, transport=InProcess(api)), Events(api.storage)
    last = here.sql("SELECT max(timestamp) AS t FROM events").rows[0][0]
    query = "SELECT count(*) AS n, max(timestamp) AS t FROM events WHERE timestamp < ?"
    assert client.events.sql(query, [last]).arrow().equals(here.sql(query, [last]).arrow())
    assert client.events.report("cost").text() == here.report("cost").text()
    with pytest.raises(QueryError, match="there are cost, queue"):
        client.events.report("nothing")
    for query in QUERIES:
        told = answer(encode_trusted(Asked(storage=str(api.storage), query=query, arrow=True)))
        assert Result.of_ipc(told).arrow().equals(here.sql(query).arrow())
        assert decode(answer(encode_trusted(Asked(storage=str(api.storage), query=query))))["columns"] == here.sql(query).columns
    here.close()


FORBIDDEN: Final = [
    "COPY (SELECT 1) TO '{folder}/stolen.csv'",
    "WITH x AS (COPY (SELECT 1) TO '{folder}/stolen.csv' RETURNING *) SELECT * FROM x",
    "COPY events FROM '/etc/passwd'",
    "ATTACH '/etc/passwd' AS x",
    "ATTACH '{folder}/resources.sqlite' (TYPE sqlite)",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_text('{folder}/secret.txt')",
    "SELECT * FROM read_blob('{folder}/master.key')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM read_json('/proc/self/environ')",
    "SELECT * FROM read_parquet('{folder}/events/**/*.parquet')",
    "SELECT * FROM parquet_metadata('{folder}/events/**/*.parquet')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM '{folder}/events/**/*.parquet'",
    'SELECT * FROM "/etc/passwd"',
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('events')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM duckdb_temporary_files()",
    'SELECT * FROM main."{folder}/events/*/*.parquet"',
    "SELECT * FROM sqlite_master",
    "SELECT (SELECT max(content) FROM '/etc/passwd')",
    "WITH x AS (FROM '/etc/passwd') FROM x",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{folder}/evil.so'",
    "FORCE INSTALL httpfs FROM 'http://127.0.0.1:1'",
    "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET memory_limit = '100GB'",
    "RESET memory_limit",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "SELECT getenv('HOME')",
    "CREATE TABLE x AS SELECT 1",
    "CREATE OR REPLACE VIEW events AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "CREATE SECRET (TYPE s3)",
    "INSERT INTO events SELECT * FROM events",
    "DELETE FROM events",
    "DROP VIEW events",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}'",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SELECT 1; SELECT 2",
    "SELECT 1) TO '{folder}/stolen.csv' --",
    "EXPLAIN ANALYZE COPY events TO '{folder}/stolen.csv'",
    "SELECT * FROM events) UNION ALL SELECT * FROM read_text('/etc/passwd') --",
    "",
    ";",
    "\x00",
    "SELECT",
]


@pytest.mark.parametrize("query", FORBIDDEN)
def test_a_query_only_reads_and_only_the_views(api: Api, query: str) -> None:
    """Asked of what the process does that answers it."""
    folder = api.storage
    before = sorted(folder.rglob("*"))
    asked = Asked(storage=str(folder), query=query.format(folder=folder))
    with pytest.raises(QueryError) as refused:
        answer(encode_trusted(asked))
    assert CANARY not in str(refused.value)
    assert "root:" not in str(refused.value)
    assert str(folder) not in str(refused.value)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY events TO '{folder}/stolen.csv'",
        "SET lock_configuration = false",
    ],
)
def test_a_query_that_would_do_more_is_refused_over_http(api: Api, everywhere: str, query: str) -> None:
    refused = ask(api, everywhere, query.format(folder=api.storage))
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:wonder-ray:problem:query-refused")
    assert not (api.storage / "stolen.csv").exists()


HUGE: Final = [
    "SELECT list(range) FROM range(3000000000)",
    "SELECT string_agg(repeat('abc', 1000), '') FROM range(10000000)",
    "SELECT repeat('x', 3000000000::BIGINT)",
    "SELECT * FROM range(1000000000)",
    "SELECT repeat('x', 1000) FROM range(49000)",
    "SELECT a.range FROM range(10000000) a ORDER BY hash(a.range), a.range",
    "SELECT list_transform(range(2000000000), x -> x + 1)",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "WITH RECURSIVE r AS (SELECT repeat('x', 1000000) AS t UNION ALL SELECT t || t FROM r) SELECT max(length(t)) FROM r",
    "SELECT count(DISTINCT hash(a.range, b.range)) FROM range(1000000) a, range(1000000) b",
    "SELECT count(*) FROM events a, events b, events c, events d, events e, events f, events g",
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("query", HUGE, ids=range(len(HUGE)))
def test_a_query_that_takes_too_much_is_ended_and_costs_this_process_nothing(api: Api, everywhere: str, query: str) -> None:
    before, since = resident_bytes(), time.monotonic()
    refused = ask(api, everywhere, query, seconds_max=3)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:wonder-ray:problem:query-refused"), refused.text
    assert time.monotonic() - since < 3 + STARTING_SECONDS + 10
    assert resident_bytes() - before < 64 << 20


def test_a_query_is_ended_in_time_and_one_that_is_too_large_is_refused(api: Api, everywhere: str) -> None:
    """The first three of what the slow test asks."""
    before = resident_bytes()
    endless = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"
    for query, why in ((endless, "longer than 1 s"), (HUGE[0], "more than 256 MB of memory"), (HUGE[3], "50,000 rows")):
        refused = ask(api, everywhere, query, seconds_max=1)
        assert (refused.status_code, why in refused.json()["detail"]) == (422, True), refused.text
    assert resident_bytes() - before < 64 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_only_so_many_questions_are_answered_at_a_time(api: Api, everywhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next is told to come again, at once."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wait(*_: object) -> bytes:
        begun.release()
        assert go_on.wait(60)
        return b"{}"

    monkeypatch.setattr(backend, "run_confined", wait)
    threads = [threading.Thread(target=ask, args=(api, everywhere, "SELECT 1")) for _ in range(backend.CONFINED_MAX)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=60)
    refused = ask(api, everywhere, "SELECT 1")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    go_on.set()
    for thread in threads:
        thread.join()
    assert ask(api, everywhere, "SELECT 1").status_code == 200
