"""Days become few files with the very rows they had; a day with something wrong in it is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.events.kept import KEEP, Past, clock_at, date, files, store, whole_table
from wonder_ray.errors import StorageError
from wonder_ray.events import compaction
from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import EventLayout
from wonder_ray.events.log_keeping import KeptFile
from wonder_ray.events.maintenance import Maintenance
from wonder_ray.events.parquet_writer import sync_and_hash, write_parquet
from wonder_ray.events.query import EventReader
from wonder_ray.events.service import EventService
from wonder_ray.events.survey import Day, take_survey

if TYPE_CHECKING:
    from pathlib import Path

    from wonder_ray.events.maintenance import Report

PASTS = [Past(1, 0, 1, rows=40), Past(2, 0, 0, rows=7), Past(3, 0, 0, rows=25), Past(4, 1, 1, rows=3)]


def compact(storage: Path, *, day: float = 3, rows_max: int = 400_000) -> Report:
    return Maintenance(storage, retention=KEEP, clock=clock_at(day), grace_s=0.0, rows_max=rows_max).run(live=set())


@pytest.mark.parametrize("rows_max", [400_000, 30, 24])
def test_the_rows_are_the_same_and_the_files_few_and_sorted(storage: Path, rows_max: int) -> None:
    store(storage, PASTS, files_a_day=10, streams=("events", "trace"))
    before = {stream: whole_table(storage, stream) for stream in ("events", "trace")}
    report = compact(storage, rows_max=rows_max)
    assert {(change.stream, change.date) for change in report.compacted} == {
        (stream, date(day)) for stream in ("events", "trace") for day in (0, 1)
    }
    for stream in ("events", "trace"):
        assert whole_table(storage, stream).equals(before[stream])
    found: list[list[tuple[str, int]]] = []
    for path in sorted((storage / "events").rglob("*.parquet")):
        table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
        keys = list(zip(table["workflow_run_id"].to_pylist(), table["sequence_number"].to_pylist(), strict=True))
        assert keys == sorted(keys)
        assert len(keys) <= rows_max
        found.append(keys)
        metadata = pq.read_metadata(path)
        assert metadata.row_group(0).column(0).compression == "ZSTD"
        assert metadata.row_group(0).sorting_columns
    assert len(found) == {400_000: 2, 30: 5, 24: 5}[rows_max]
    for past in PASTS:
        assert [row.sequence_number for row in EventReader(storage).read(past.run)] == list(range(1, past.length + 1))
    assert compact(storage, rows_max=rows_max).compacted == []


def test_only_days_that_are_over_are_touched(storage: Path) -> None:
    store(storage, [Past(1, 0, 1, rows=40)], files_a_day=4)
    assert compact(storage, day=0.5).compacted == []  # midnight
    assert [change.date for change in compact(storage, day=0.55).compacted] == [date(0)]
    assert files(storage) == {date(0): 1, date(1): 4}


def test_rows_that_come_late_are_taken_in_the_next_time(storage: Path) -> None:
    store(storage, PASTS, files_a_day=10)
    compact(storage)
    late = Past(9, 0, 0, rows=3)
    store(storage, [late])
    before = whole_table(storage)
    [change] = compact(storage).compacted
    assert (change.date, change.files, change.new_files) == (date(0), 4, 1)
    assert whole_table(storage).equals(before)


@given(rows=st.integers(1, 3_000_000), count=st.integers(1, 100))
def test_a_day_is_worth_it_only_when_it_gets_fewer_files(rows: int, count: int) -> None:
    day = Day("events", "2026-11-18", tuple(KeptFile(str(number), rows // count, "", 1) for number in range(count)))
    if compaction.is_worth_it(day):
        assert max(1, -(-day.rows // compaction.ROWS_MAX)) < count


def sole_path(storage: Path, day: int) -> Path:
    return min((storage / "events" / f"date={date(day)}").iterdir())


def test_a_damaged_file_is_never_laundered(storage: Path) -> None:
    store(storage, PASTS, files_a_day=10)
    path = sole_path(storage, 0)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    report = compact(storage)
    assert any(f"{path} is not what was written: it is damaged" in problem for problem in report.problems)
    assert [change.date for change in report.compacted] == [date(1)]
    assert path.read_bytes() == content


def test_a_row_that_is_there_twice_is_shown_not_multiplied(storage: Path) -> None:
    store(storage, PASTS, files_a_day=10)
    layout = EventLayout(storage)
    twin = layout.partition("events", date(0)) / "twin.parquet"
    twin.write_bytes(sole_path(storage, 0).read_bytes())
    with CommitLog.own(layout.log_path(1)) as log, log.transaction():
        rows = pq.read_metadata(twin).num_rows
        log._all(
            "INSERT INTO files (stream, name, rows, sha256, size) VALUES ('events', ?, ?, '', 1)",
            f"date={date(0)}/twin.parquet",
            rows,
        )
    report = compact(storage)
    assert any("is there twice; the day is left as it is" in problem for problem in report.problems)
    assert twin.exists()


def test_a_file_of_a_newer_release_is_left_to_it(storage: Path) -> None:
    store(storage, PASTS, files_a_day=10)
    path = sole_path(storage, 0)
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.append_column("mood", pa.nulls(table.num_rows, pa.string())), path)
    sha256, size = sync_and_hash(str(path))
    layout = EventLayout(storage)
    with CommitLog.own(layout.log_path(1)) as log, log.transaction():
        log._all("UPDATE files SET sha256 = ?, size = ? WHERE name = ?", sha256, size, f"date={date(0)}/{path.name}")
    report = compact(storage)
    assert any("has columns mood: a newer release wrote it" in problem for problem in report.problems)
    assert "mood" in pq.read_schema(path).names


def test_files_that_a_crashed_service_will_write_again_are_left_alone(storage: Path) -> None:
    store(storage, PASTS, files_a_day=10)
    layout = EventLayout(storage)
    before = whole_table(storage)
    with CommitLog.own(layout.log_path(1)) as log, log.transaction():
        name = f"date={date(0)}/{sole_path(storage, 0).name}"
        log._all("UPDATE files SET plan = 77 WHERE name = ?", name)
    assert [change.date for change in compact(storage).compacted] == [date(1)]
    assert whole_table(storage).equals(before)


def test_files_that_no_log_knows_wait_until_a_service_has_learnt_them(storage: Path) -> None:
    store(storage, PASTS, files_a_day=10)
    before = whole_table(storage)
    for path in (storage / "eventlog").glob("1.*"):
        path.unlink()
    assert compact(storage).compacted == []
    assert take_survey(EventLayout(storage)).unknown["events"]
    with EventService(storage):
        pass
    assert len(compact(storage).compacted) == 2
    assert whole_table(storage).equals(before)
    for past in PASTS:
        assert [row.sequence_number for row in EventReader(storage).read(past.run)] == list(range(1, past.length + 1))


def test_a_disk_that_writes_something_else_replaces_nothing(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(storage, PASTS, files_a_day=10)
    before = files(storage)
    monkeypatch.setattr(compaction, "write_parquet", lambda table, path: write_parquet(table.slice(1), path))
    report = compact(storage)
    assert any("does not hold what was written to it" in problem for problem in report.problems)
    assert files(storage) == before
    assert compact(storage).problems[1:] != []
    monkeypatch.setattr(compaction, "write_parquet", write_parquet)
    assert len(compact(storage).compacted) == 2


def test_a_day_whose_logs_tell_another_number_of_rows_is_left(storage: Path) -> None:
    store(storage, PASTS, files_a_day=10)
    layout = EventLayout(storage)
    with CommitLog.own(layout.log_path(1)) as log, log.transaction():
        log._all("UPDATE files SET rows = rows + 1 WHERE name LIKE ?", f"date={date(0)}/%")
    [day] = [day for day in take_survey(layout).days("events") if day.date == date(0)]
    with pytest.raises(StorageError, match="are noted; it is left as it is"):
        compaction.compact(layout, day)


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=8), rows_max=st.integers(1, 40), files_=st.integers(1, 5))
def test_parts_are_full_whatever_the_runs(
    counts: list[int], rows_max: int, files_: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """So that a day which was compacted is never worth it again."""
    folder = tmp_path_factory.mktemp("parts")
    keys = [(f"run{run}", number) for run, count in enumerate(counts) for number in range(5, 5 + count)]
    for number in range(files_):
        mine = keys[number::files_]
        table = pa.table({"workflow_run_id": [run for run, _ in mine], "sequence_number": [number for _, number in mine]})
        pq.write_table(
            table.cast(pa.schema([("workflow_run_id", pa.string()), ("sequence_number", pa.int64())])),
            folder / f"{number}.parquet",
        )
    dataset = ds.dataset(folder, format="parquet")
    found: list[tuple[str, int]] = []
    sizes: list[int] = []
    for part in compaction._parts(dataset, rows_max):
        table = compaction._rows_of(dataset, part).sort_by(list(compaction._KEYS))
        found += zip(table["workflow_run_id"].to_pylist(), table["sequence_number"].to_pylist(), strict=True)
        sizes.append(table.num_rows)
    assert found == keys
    assert set(sizes[:-1]) <= {rows_max}
    assert 1 <= sizes[-1] <= rows_max
