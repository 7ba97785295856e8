"""Log files that are old become Parquet, and are searched as before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.dataset as ds
import pytest

from wonder_ray.clock import SimulatedClock
from wonder_ray.clock_guard import DAY_US
from wonder_ray.errors import QueryError
from wonder_ray.logs import archive, lines, query
from wonder_ray.logs.archive import archive_old, list_archived, remove_archived
from wonder_ray.logs.files import list_files, utc_date
from wonder_ray.logs.keeping import keep, plan, sizes
from wonder_ray.logs.query import LogReader, Narrow
from wonder_ray.logs.record import LogLine
from wonder_ray.logs.store import LogStore
from wonder_ray.settings import Retention

if TYPE_CHECKING:
    from collections.abc import Callable

    from wonder_ray.logs.record import Level

NOON_US = 20_000 * DAY_US + DAY_US // 2
RUN = "run_0192f0c1a2b3_0123456789abcdef"


def lines_of(day: int, count: int = 20) -> list[LogLine]:
    """Lines of all sorts, in no order of time."""
    levels: tuple[Level, ...] = ("info", "error", "debug")
    return [
        LogLine(
            timestamp=NOON_US + day * DAY_US + (n * 7919) % 1000,
            level=levels[n % 3],
            service="executor",
            event_type="rpc_timeout" if n % 4 else "db_query_slow",
            message=f"line {n} of day {day}: é \U0001f600 % _",
            trace_id=RUN if n % 2 else None,
            node_id="fetch" if n % 2 else None,
            token_id=f"t_{n % 4}" if n % 2 else None,
            request_id=f"req_{n % 5}",
            workspace_id="lab" if n % 3 else "default",
            project_id="demo" if n % 3 == 1 else None,
            attempt=n if n % 2 else None,
            pid=2**40 + n,
            error_stack="Traceback\n  boom" if n % 5 == 0 else None,
            metadata=f'{{"duration_ms": {n * 100}}}' if n % 3 else None,
        )
        for n in range(count)
    ]


def write(storage: Path, days: range, instance: str = "node1") -> None:
    store = LogStore(storage / "logs", instance)
    for day in days:
        store.append(lines_of(day), NOON_US + day * DAY_US)
    store.close()


def date(day: int) -> str:
    return utc_date(NOON_US + day * DAY_US)


QUERIES: list[tuple[str, Any]] = [
    ("TRUE", ()),
    ("service = 'executor' AND level = 'error' AND timestamp > ?", (NOON_US + DAY_US,)),
    ("event_type = 'db_query_slow' AND json_extract(metadata, '$.duration_ms') > 1000", ()),
    ("trace_id = :run", {"run": RUN}),
    ("event_type LIKE '%rpc%' AND level = 'error'", ()),
    ("attempt IS NULL OR error_stack LIKE '%boom%'", ()),
]


@pytest.mark.parametrize(("where", "params"), QUERIES)
@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [None, 7])
def test_a_query_finds_the_same_lines_wherever_they_are(
    storage: Path, where: str, params: Any, newest_first: bool, limit: int | None
) -> None:
    write(storage, range(5))
    write(storage, range(1, 3), "node2")
    reader = LogReader(storage)

    def ask(archive: Narrow | None) -> list[LogLine]:
        return reader.sql(where, params, limit=limit, newest_first=newest_first, archive=archive)

    before = ask(None)
    done = archive_old(storage, before=date(3))
    assert (len(done.files), done.lines, done.problems) == (5, 100, [])
    found = ask(Narrow())
    assert [line.timestamp for line in found] == [line.timestamp for line in before]
    if limit is None:
        assert sorted(found, key=repr) == sorted(before, key=repr)
    assert reader.skipped == {}
    assert {line.timestamp // DAY_US for line in ask(None)} <= {20_003, 20_004}


def test_filters_narrow_the_archive_and_change_nothing(storage: Path) -> None:
    write(storage, range(4))
    reader = LogReader(storage)
    asked = [
        {"trace_id": RUN},
        {"level": "error", "since_us": NOON_US + DAY_US, "until_us": NOON_US + 2 * DAY_US + 500},
        {"node_id": "fetch", "text": "DAY 2"},
        {"event_type": "db_%", "limit": 3},
        {"service": "executor", "level": "error"},
        {"token_id": "t_3"},
        {"request_id": "req_2", "newest_first": False},
        {"workspace_id": "lab", "project_id": "demo", "newest_first": False, "limit": 5},
        {"text": "boom", "trace_id": RUN},
        {"since_us": NOON_US + 2 * DAY_US, "limit": 4},
        {"until_us": NOON_US + DAY_US, "limit": None},
    ]
    before = [reader.search(**some) for some in asked]  # type: ignore[arg-type] # each by its name
    assert all(before)
    archive_old(storage, before=date(4))
    assert [reader.search(**some, archive=True) for some in asked] == before  # type: ignore[arg-type] # as above
    assert reader.search() == []
    with pytest.raises(QueryError):
        reader.sql("nonsense =", archive=Narrow())


def test_other_tools_read_the_archive(storage: Path) -> None:
    write(storage, range(3))
    archive_old(storage, before=date(2))
    table = ds.dataset(storage / "logs" / "archive", partitioning="hive").to_table()
    assert table.num_rows == 40
    assert str(table.schema.field("timestamp").type) == "timestamp[us, tz=UTC]"
    frame = pd.read_parquet(storage / "logs" / "archive")
    assert set(frame["date"].astype(str)) == {date(0), date(1)}
    assert [path.suffix for path in (storage / "logs" / "archive").rglob("*") if path.is_file()] == [".parquet"] * 2


def test_the_archive_is_a_fraction_of_what_it_was(storage: Path) -> None:
    store = LogStore(storage / "logs", "node1")
    for start in range(0, 20_000, 1_000):
        store.append(
            [
                LogLine(timestamp=NOON_US + n, level="info", service="events", event_type="tick", message=f"batch {n}")
                for n in range(start, start + 1_000)
            ],
            NOON_US,
        )
    store.close()
    before = sizes(storage)["logs"]
    archive_old(storage, before=date(1))
    after = sizes(storage)
    assert after["logs"] == {"files": 0, "bytes": 0, "oldest": None, "newest": None}
    assert after["log_archive"]["files"] == 1
    assert int(str(after["log_archive"]["bytes"])) < int(str(before["bytes"])) / 8


class Steps:
    """Looks at the storage before every change that archiving makes to its files, and crashes before the `nth`."""

    def __init__(self, patched: pytest.MonkeyPatch, look: Callable[[], None], nth: int) -> None:
        self.taken: list[str] = []
        self._look = look
        self._nth = nth
        for name in ("replace", "unlink", "mkdir"):
            patched.setattr(Path, name, self._before(name, getattr(Path, name)))
        for name in ("_write", "_sync"):
            patched.setattr(archive, name, self._before(name, getattr(archive, name)))

    def _before(self, name: str, honest: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any, **named: Any) -> Any:
            self._look()
            self.taken.append(name)
            if len(self.taken) == self._nth:
                raise KeyboardInterrupt
            return honest(*given, **named)

        return step


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The storage of a writer that was killed: its newest lines are in the write-ahead log of its file."""
    store = LogStore(tmp_path / "alive" / "logs", "node1")
    for day in range(2):
        store.append(lines_of(day), NOON_US + day * DAY_US)
    shutil.copytree(tmp_path / "alive", tmp_path / "killed")
    store.close()
    assert list((tmp_path / "killed" / "logs").glob("*-wal"))
    return tmp_path / "killed"


def test_a_crash_before_any_step_loses_and_doubles_no_line(killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(LogReader(killed).sql("TRUE"), key=repr)
    assert len(before) == 40
    nth, crashed = 0, True
    while crashed:
        nth += 1
        storage = tmp_path / str(nth)
        shutil.copytree(killed, storage)

        def look(storage: Path = storage) -> None:
            reader = LogReader(storage)
            assert sorted(reader.sql("TRUE", archive=Narrow()), key=repr) == before
            assert reader.skipped == {}

        with monkeypatch.context() as patched:
            steps = Steps(patched, look, nth)
            try:
                archive_old(storage, before=date(2))
            except KeyboardInterrupt:
                pass
            else:
                crashed = False
        look()
        archive_old(storage, before=date(2))
        look()
        assert [path.name for path in (storage / "logs").iterdir() if "sqlite" in path.name] == []
    assert len(steps.taken) >= 10  # per file: written, moved, two folders synced, and the old file with its companions removed


def test_a_reader_that_listed_the_files_before_they_went_finds_every_line(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(storage, range(3))
    before = LogReader(storage).sql("TRUE")
    honest = lines.read_lines

    def archive_first(*given: Any, **named: Any) -> list[LogLine]:
        archive_old(storage, before=date(3))
        return honest(*given, **named)

    monkeypatch.setattr(query, "read_lines", archive_first)
    reader = LogReader(storage)
    assert sorted(reader.sql("TRUE", archive=Narrow()), key=repr) == sorted(before, key=repr)
    assert reader.skipped == {}
    assert list_files(storage / "logs") == []


def test_a_file_that_cannot_be_read_stays(storage: Path) -> None:
    write(storage, range(2))
    bad = Path(list_files(storage / "logs")[0].path)
    bad.write_bytes(b"SQLite format 3\0" + bytes(4096))
    done = archive_old(storage, before=date(2))
    assert len(done.files) == 1
    assert f"{bad} could not be archived, and is left" in done.problems[0]
    assert bad.exists()


def test_an_archive_that_does_not_hold_its_lines_replaces_nothing(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(storage, range(1))
    honest = archive._write
    monkeypatch.setattr(archive, "_write", lambda table, path: honest(table.slice(1), path))
    assert "does not hold what was written to it" in archive_old(storage, before=date(1)).problems[0]
    assert len(list_files(storage / "logs")) == 1
    assert list_archived(storage) == []


def test_a_damaged_archive_is_left_out_and_named(storage: Path) -> None:
    write(storage, range(2))
    archive_old(storage, before=date(2))
    path = Path(list_archived(storage)[0].path)
    path.write_bytes(path.read_bytes()[:-9])
    reader = LogReader(storage)
    assert len(reader.sql("TRUE", archive=Narrow())) == 20
    assert list(reader.skipped) == [str(path)]


def test_a_writer_that_has_slept_goes_on(storage: Path) -> None:
    """A file of an old day that its writer still has open: nothing has happened since."""
    store = LogStore(storage / "logs", "node1")
    store.append(lines_of(0), NOON_US)
    assert archive_old(storage, before=date(40)).lines == 20
    store.append(lines_of(40), NOON_US + 40 * DAY_US)
    store.close()
    assert len(LogReader(storage).sql("TRUE", archive=Narrow())) == 40
    assert [file.date for file in list_files(storage / "logs")] == [date(40)]


def test_one_process_archives_at_a_time(storage: Path) -> None:
    write(storage, range(1))
    seen: list[bool] = []

    def look() -> bool:
        seen.append(archive_old(storage, before=date(1)).busy)
        return False

    assert not archive_old(storage, before=date(1), stopping=look).busy
    assert seen == [True]
    assert archive_old(storage / "none", before=date(1)).busy


def test_lines_are_kept_as_the_settings_say(storage: Path) -> None:
    write(storage, range(0, 50, 10))
    clock = SimulatedClock(NOON_US + 41 * DAY_US)
    kept = Retention(logs_days=30, log_archive_days=35)
    refused = keep(storage, kept, clock=clock)
    assert refused.files == []
    assert refused.problems[0].startswith("no log was archived, since the clock is not believed")
    assert plan(storage, kept, clock=clock).files == [f"node1-{date(day)}-1.sqlite" for day in (0, 10)]
    done = keep(storage, kept, clock=clock, trust_clock=True)
    assert done.files == plan(storage, kept, clock=SimulatedClock(NOON_US + 41 * DAY_US)).files or len(done.files) == 2
    assert done.removed == [date(0)]
    assert [file.date for file in list_archived(storage)] == [date(10)]
    assert [file.date for file in list_files(storage / "logs")] == [date(20), date(30), date(40)]
    assert keep(storage, Retention(logs_days=None), clock=clock).files == []


def test_removed_days_are_gone_for_good(storage: Path) -> None:
    write(storage, range(3))
    archive_old(storage, before=date(3))
    assert remove_archived(storage, before=date(2)) == [date(0), date(1)]
    assert remove_archived(storage, before=date(2)) == []
    assert len(LogReader(storage).sql("TRUE", archive=Narrow())) == 20
    assert list((storage / "logs" / "tmp").iterdir()) == []
