"""Readers that began before a swap, and go on during it or when it is over: the old rows, or an error that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from tests.events.kept import Past, store
from tests.events.plain_readers import CLEAR
from wonder_ray.events.compaction import compact
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.retention import removal_of
from wonder_ray.events.survey import take_survey
from wonder_ray.events.swaps import SWAP_FAILPOINTS, begin, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wonder_ray.events.survey import Day
    from wonder_ray.events.swaps import Swap

    GoOn = Callable[[], Any]
    End = Callable[[EventLayout, Day], Swap]

PASTS: Final = [Past(1, 0, 0, rows=300), Past(2, 0, 0, rows=300)]
ALL: Final = sorted((past.run, number) for past in PASTS for number in range(1, past.length + 1))
KEYS: Final = ["workflow_run_id", "sequence_number"]


def rows_of(table: pa.Table) -> list[tuple[str, int]]:
    return sorted(zip(*(column.to_pylist() for column in table.select(KEYS).columns), strict=True))


def pyarrow_dataset(folder: Path) -> GoOn:
    """Made in one cell of a notebook, read in the next."""
    dataset = ds.dataset(folder, partitioning="hive")
    return lambda: rows_of(dataset.to_table(columns=KEYS))


def pyarrow_dataset_again(folder: Path) -> GoOn:
    """Read before, so that it knows what is in the files."""
    go_on = pyarrow_dataset(folder)
    assert go_on() == ALL
    return go_on


def pyarrow_count(folder: Path) -> GoOn:
    dataset = ds.dataset(folder, partitioning="hive")
    assert dataset.count_rows() == len(ALL)
    return lambda: int(dataset.count_rows())


def pyarrow_batches(folder: Path) -> GoOn:
    """In the middle of a scan, which opens one file after the other."""
    dataset = ds.dataset(folder, partitioning="hive")
    batches = dataset.to_batches(columns=KEYS, use_threads=False, batch_readahead=0, fragment_readahead=1)
    first = next(batches)
    return lambda: rows_of(pa.Table.from_batches([first, *batches]))


def polars_lazy(folder: Path) -> GoOn:
    lazy = pl.scan_parquet(folder, hive_partitioning=True).select(KEYS)
    lazy.collect_schema()
    return lambda: sorted(lazy.collect().rows())


def polars_count(folder: Path) -> GoOn:
    lazy = pl.scan_parquet(folder, hive_partitioning=True).select(pl.len())
    return lambda: lazy.collect().item()


def duckdb_stream(folder: Path) -> GoOn:
    """In the middle of a scan, as one of many millions of rows is for half a minute."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET streaming_buffer_size = '1KB'")
    query = f"SELECT workflow_run_id, sequence_number, metadata FROM read_parquet('{folder}/*/*.parquet')"
    reader = connection.sql(query).to_arrow_reader(1)
    first = reader.read_next_batch()
    return lambda: rows_of(pa.Table.from_batches([first, *reader]))


def duckdb_view(folder: Path) -> GoOn:
    """A session that has asked before, and keeps what it knows of the files."""
    connection = duckdb.connect()
    connection.execute("SET parquet_metadata_cache = true")
    query = f"SELECT workflow_run_id, sequence_number FROM read_parquet('{folder}/*/*.parquet')"
    connection.execute(f"CREATE VIEW events AS {query}")

    def ask() -> list[Any]:
        return sorted(connection.execute("FROM events").fetchall())

    assert ask() == ALL
    return ask


def duckdb_count(folder: Path) -> GoOn:
    connection = duckdb.connect()
    connection.execute("SET parquet_metadata_cache = true")
    connection.execute(f"PREPARE question AS SELECT count(*) FROM read_parquet('{folder}/*/*.parquet')")

    def ask() -> int:
        (found,) = connection.execute("EXECUTE question").fetchone() or (None,)
        return int(found or 0)

    assert ask() == len(ALL)
    return ask


READERS: Final = (
    pyarrow_dataset, pyarrow_dataset_again, pyarrow_count, pyarrow_batches,
    polars_lazy, polars_count, duckdb_stream, duckdb_view, duckdb_count,
)  # fmt: skip
OPENING_LATE: Final = {pyarrow_dataset, pyarrow_dataset_again, polars_lazy, polars_count, duckdb_view, duckdb_count}
"""The others know what is asked, or may have read ahead."""


def removed(_: EventLayout, day: Day) -> Swap:
    return removal_of(day)


@pytest.mark.parametrize("end", [compact, removed])
@pytest.mark.parametrize("begun", READERS)
def test_who_has_begun_to_read_reads_all_or_is_told(
    storage: Path, begun: Callable[[Path], GoOn], end: Callable[..., Swap]
) -> None:
    store(storage, PASTS, files_a_day=30)
    layout = EventLayout(storage)
    (day,) = take_survey(layout).days("events")
    swap = end(layout, day)
    waiting = {step: begun(storage / "events") for step in SWAP_FAILPOINTS}  # each goes on at a step of its own
    told: dict[str, str] = {}

    def go_on(step: str) -> None:
        if (reader := waiting.pop(step, None)) is None:
            return
        try:
            found = reader()
        except (OSError, pa.ArrowInvalid, pl.exceptions.ComputeError, duckdb.Error) as error:
            told[step] = str(error)
            assert any(text in told[step] for text in CLEAR)
        else:
            assert found in (ALL, len(ALL)), step
            told[step] = "right"

    begin(layout, swap, go_on)
    carry_out(layout, [swap], grace_s=0.0, failpoint=go_on)
    assert list(told) == list(SWAP_FAILPOINTS)
    assert told["swap.noted"] == "right"
    if begun in OPENING_LATE:
        assert told["swap.waited"] != "right"
