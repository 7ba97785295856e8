from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.events.histories import DAY_US, NOON_US, History, info, line, metadata, rows_of, run_id
from wonder_ray.events.commit_log import CommitLog, StoredBatch
from wonder_ray.events.lines import EventLine, TraceLine
from wonder_ray.events.parquet_writer import split_days, to_table
from wonder_ray.events.query import EventReader, EventRow, TraceRow
from wonder_ray.events.schema import EVENT_SCHEMA, RUN_COLUMNS, TRACE_SCHEMA
from wonder_ray.events.service import EventService
from wonder_ray.events.wire import EventBatch, RunInfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAST_US = NOON_US - NOON_US % DAY_US + DAY_US - 1
"""The last microsecond of 2026-11-18."""
HISTORIES = [History(2, length=50, step_us=DAY_US // 20), History(1, length=30)]


def store(storage: Path, *batches: EventBatch) -> None:
    with EventService(storage) as service:
        assert [ack.outcome for ack in service.submit(batches)] == ["ok"] * len(batches)


def by_pyarrow(root: Path) -> list[tuple[str, int, str]]:
    table = ds.dataset(root, partitioning="hive").to_table()
    return list(zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True))


def by_pandas(root: Path) -> list[tuple[str, int, str]]:
    return list(pd.read_parquet(root)[COLUMNS].itertuples(index=False, name=None))


def by_polars(root: Path) -> list[tuple[str, int, str]]:
    return pl.read_parquet(root, hive_partitioning=True).select(COLUMNS).rows()


def by_duckdb(root: Path) -> list[tuple[str, int, str]]:
    names = ", ".join(COLUMNS)
    query = f"select {names} from read_parquet('{root}/**/*.parquet', hive_partitioning=true)"
    return list(duckdb.execute(query).fetchall())


COLUMNS = ["workflow_run_id", "sequence_number", "metadata"]


@pytest.mark.parametrize("reader", [by_pyarrow, by_pandas, by_polars, by_duckdb])
def test_plain_readers_read_the_folder_as_it_is(storage: Path, reader: Callable[[Path], list[tuple[str, int, str]]]) -> None:
    store(storage, *(history.batch(1, history.length) for history in HISTORIES))
    rows = sorted(reader(storage / "events"))
    assert [row[:2] for row in rows] == rows_of(*HISTORIES)
    assert all(text == metadata(number) for _, number, text in rows)


def test_a_row_lies_under_the_utc_day_of_its_timestamp(storage: Path) -> None:
    rows = [line(1, at_us=LAST_US - 2), line(2, at_us=LAST_US - 2), line(3, at_us=LAST_US - 2), line(4, at_us=LAST_US)]
    store(storage, EventBatch(info(run_id(1)), "events", 1, 1, 4, b"\n".join(rows)))
    table = ds.dataset(storage / "events", partitioning="hive").to_table()
    found = dict(zip(table.column("sequence_number").to_pylist(), table.column("date").to_pylist(), strict=True))
    assert found == {1: "2026-11-18", 2: "2026-11-18", 3: "2026-11-19", 4: "2026-11-19"}
    assert [row.sequence_number for row in EventReader(storage).read(run_id(1))] == [1, 2, 3, 4]


def test_rows_lie_sorted_by_run_and_sequence(storage: Path) -> None:
    batches = [HISTORIES[i].batch(first, first + 9) for first in (1, 11, 21) for i in (0, 1)]
    store(storage, *batches)
    for path in storage.glob("events/*/*.parquet"):
        table = pq.read_table(path, partitioning=None)
        keys = list(zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True))
        assert keys == sorted(keys)
        assert table.schema.equals(EVENT_SCHEMA)


def test_every_column_comes_through(storage: Path) -> None:
    run = RunInfo(run_id(1), "space", "project", run_id(2), run_id(3), "flow é", "7")
    full: dict[str, Any] = {
        "token_id": "t_1",
        "path_id": "root.a.0",
        "attempt": 2,
        "duration_ms": 1.25,
        "tokens": 12,
        "cost_usd": 0.1,
        "message": "x",
    }
    store(storage, EventBatch(run, "events", 1, 1, 1, line(1, **full)))
    [row] = EventReader(storage).read(run_id(1))
    assert row == EventRow(
        *(run.workflow_run_id, 1, 0, NOON_US + 1, 1, NOON_US + 1, "token.created", "space", "project", run_id(2), run_id(3)),
        *("flow é", "7", "fetch", "t_1", "root.a.0", 2, 1.25, 12, 0.1, "x", metadata(1)),
    )
    assert row.details["text"].endswith("\x00")
    assert row.as_dict()["sequence_number"] == 1


def test_the_records_agree_with_the_schemas() -> None:
    assert list(EventRow.__struct_fields__) == EVENT_SCHEMA.names
    assert list(TraceRow.__struct_fields__) == TRACE_SCHEMA.names
    assert list(EventLine.__struct_fields__) == [name for name in EVENT_SCHEMA.names if name not in RUN_COLUMNS]
    assert set(TraceLine.__struct_fields__) == set(TRACE_SCHEMA.names) - set(RUN_COLUMNS)
    assert all(field.metadata[b"description"] for schema in (EVENT_SCHEMA, TRACE_SCHEMA) for field in schema)


def test_files_of_an_older_schema_are_readable(storage: Path) -> None:
    store(storage, HISTORIES[1].batch(1, 10))
    [path] = storage.glob("events/*/*.parquet")
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["cost_usd", "metadata"]), path)
    rows = EventReader(storage).read(HISTORIES[1].run)
    assert [row.sequence_number for row in rows] == list(range(1, 11))
    assert {row.metadata for row in rows} == {None}


def test_the_log_keeps_the_hash_of_each_file(storage: Path) -> None:
    store(storage, *(history.batch(1, history.length) for history in HISTORIES))
    with CommitLog.own(storage / "eventlog" / "1.sqlite") as log:
        files = log.sealed_files("events")
    assert sum(file.rows for file in files) == 80
    for file in files:
        content = (storage / "events" / file.name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.size)


def test_flipped_bits_are_noticed(storage: Path) -> None:
    history = History(1, length=2000)
    store(storage, history.batch(1, 2000))
    [path] = storage.glob("events/*/*.parquet")
    whole = path.read_bytes()
    right = EventReader(storage).read(history.run)
    chance = random.Random(7)
    wrong = 0
    for _ in range(60):
        place = chance.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :])
        try:
            wrong += EventReader(storage).read(history.run) != right
        except (OSError, pa.ArrowException, UnicodeDecodeError):
            continue
    assert wrong <= 1  # the footer and page headers carry no checksum


def test_both_parsers_give_the_same_rows() -> None:
    plain = line(1, duration_ms=0.1)
    doubled = plain[:-1] + b',"node_id":"fetch"}'
    run = info(run_id(1))
    tables = [to_table("events", [StoredBatch(run, 1, 1, lines)]) for lines in (plain, doubled)]
    assert tables[0].equals(tables[1])


def test_one_long_line_is_a_row() -> None:
    long = line(2, message="x" * (9 << 20))
    batch = StoredBatch(info(run_id(1)), 1, 3, b"\n".join([line(1), long, line(3)]))
    assert to_table("events", [batch]).column("message").to_pylist()[1] == "x" * (9 << 20)


def test_days_split_without_losing_rows() -> None:
    batch = HISTORIES[0].batch(1, 50)
    table = to_table("events", [StoredBatch(batch.run, 1, 50, batch.lines)])
    days = split_days(table)
    assert sorted(days) == ["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"]
    assert sum(day.num_rows for day in days.values()) == 50
