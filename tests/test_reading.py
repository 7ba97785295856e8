"""What is told of runs with nothing but the storage folder."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.prepared import COMPLETED, FAILED, LOG_US, OPEN, QUEUED, SHIPPED, Prepared, prepare
from wonder_ray.errors import HistoryConflictError, QueryError, RunNotFoundError, StorageError, WonderError
from wonder_ray.fold import describe, fold
from wonder_ray.reading import Reader
from wonder_ray.storage.lock import RunLock

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLDER = {"pid": 4711, "node": "n1", "host": "h", "epoch": 3, "placement": "dedicated", "since_us": 1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("reading"))


@pytest.fixture
def reader(prepared: Prepared) -> Reader:
    return Reader(prepared.storage)


@pytest.fixture
def held(reader: Reader) -> Iterator[RunLock]:
    """The open run has a coordinator."""
    lock = RunLock(reader.layout.lock_file(OPEN))
    assert lock.try_acquire(HOLDER)
    yield lock
    lock.release()


def test_runs_come_newest_first_and_can_be_chosen(reader: Reader) -> None:
    assert [run.run_id for run in reader.runs()] == [QUEUED, OPEN, FAILED, COMPLETED]
    assert [run.run_id for run in reader.runs(limit=1)] == [QUEUED]
    assert [run.run_id for run in reader.runs(status="failed")] == [FAILED]
    assert reader.runs(workflow="other") == []
    with pytest.raises(WonderError, match="completed"):
        reader.runs(status="finished")


def test_a_run_is_found_by_its_id_its_beginning_and_as_the_latest(reader: Reader) -> None:
    assert {reader.record(ref).run_id for ref in (OPEN, OPEN[:16], "run_0192f0c1a2b3")} == {OPEN}
    assert reader.record("latest").run_id == QUEUED
    with pytest.raises(RunNotFoundError, match="several"):
        reader.record("run_0192")
    with pytest.raises(RunNotFoundError, match="wonder runs"):
        reader.record("nothing")


def test_events_of_an_ended_run_are_its_rows(reader: Reader, prepared: Prepared) -> None:
    rows = reader.events(COMPLETED)
    assert [(row.sequence_number, row.event_type) for row in rows] == [
        (row["sequence_number"], row["event_type"]) for row in prepared.completed.rows
    ]
    assert reader.events(COMPLETED, after=len(rows) - 2) == rows[-2:]
    assert [row.sequence_number for row in reader.traces(COMPLETED)] == list(range(1, len(prepared.completed.traces) + 1))


def test_what_only_the_runs_file_has_is_read_from_there(reader: Reader, prepared: Prepared) -> None:
    rows = reader.events(OPEN)
    assert [row.sequence_number for row in rows] == list(range(1, len(prepared.open.rows) + 1))
    assert {row.workflow_run_id for row in rows} == {OPEN}
    assert rows[0].workflow_version == rows[-1].workflow_version
    assert [row.sequence_number for row in reader.events(OPEN, after=SHIPPED + 2)] == list(
        range(SHIPPED + 3, len(prepared.open.rows) + 1)
    )
    assert reader.skipped == {}


@pytest.mark.usefixtures("held")
def test_while_a_coordinator_holds_the_file_the_acknowledged_events_are_told(reader: Reader) -> None:
    assert [row.sequence_number for row in reader.events(OPEN)] == list(range(1, SHIPPED + 1))
    assert reader.show(OPEN)["coordinator"] == {name: HOLDER[name] for name in ("pid", "node", "epoch", "placement")}


def test_a_run_without_a_coordinator_has_none(reader: Reader) -> None:
    assert reader.coordinator(OPEN) is None
    assert reader.show(COMPLETED)["coordinator"] is None


def test_show_believes_the_events_where_they_know_more(reader: Reader, prepared: Prepared) -> None:
    found = reader.show(OPEN)
    assert (found["status"], found["events"], found["input"]) == ("running", len(prepared.open.rows), {"site": "c"})
    assert found["nodes"] == {
        "list": {"completed": 1},
        "fetch": {"completed": 1, "dispatched": 2},
        "report": {"waiting_for_siblings": 1},
    }


def test_show_tells_how_runs_ended(reader: Reader, prepared: Prepared) -> None:
    completed, failed, queued = reader.show(COMPLETED), reader.show(FAILED), reader.show(QUEUED)
    assert (completed["status"], completed["output"], completed["error"]) == ("completed", prepared.completed.output, None)
    assert completed["nodes"]["report"] == {"completed": 1}
    assert (failed["status"], failed["error"]["type"], failed["output"]) == ("failed", "Unlucky", None)
    assert (queued["status"], queued["nodes"], queued["events"]) == ("queued", {}, None)


def test_state_is_the_fold_of_the_events(reader: Reader, prepared: Prepared) -> None:
    assert reader.state(COMPLETED) == describe(fold(COMPLETED, prepared.completed.rows))
    assert reader.state(OPEN, at=5) == describe(fold(OPEN, prepared.open.rows, at=5))
    assert reader.state(OPEN) == describe(prepared.open.state)
    assert reader.state(QUEUED)["run"]["status"] == "queued"


@pytest.mark.parametrize("at", [0, -1, 10_000])
def test_a_state_at_no_event_is_refused(reader: Reader, at: int) -> None:
    with pytest.raises(WonderError, match=f"has no event {at}"):
        reader.state(COMPLETED, at=at)


def test_a_damaged_run_file_is_done_without_and_named(tmp_path: Path) -> None:
    storage = prepare(tmp_path / "s").storage
    reader = Reader(storage)
    reader.layout.run_file(OPEN).write_bytes(b"not a database, though as long as one" * 100)
    assert len(reader.events(OPEN)) == SHIPPED
    assert list(reader.skipped) == [str(reader.layout.run_file(OPEN))]


def test_a_history_whose_beginning_was_removed_is_shown_as_it_was_reported(tmp_path: Path) -> None:
    storage = prepare(tmp_path / "s").storage
    for folder in ("events", "eventlog"):
        shutil.rmtree(storage / folder)
    reader = Reader(storage)
    assert (reader.show(FAILED)["status"], reader.show(FAILED)["nodes"]) == ("failed", {})
    assert reader.events(FAILED) == []
    with pytest.raises(HistoryConflictError, match="retention"):
        reader.state(FAILED)


def test_settled_is_what_has_ended_and_been_acknowledged(reader: Reader) -> None:
    assert [reader.is_settled(reader.record(ref)) for ref in (COMPLETED, FAILED, OPEN, QUEUED)] == [True, True, False, False]


def test_logs_are_the_newest_lines_oldest_first(reader: Reader) -> None:
    assert [line.message for line in reader.logs()] == ["hello", "no page", "slow"]
    assert [line.message for line in reader.logs(limit=2)] == ["no page", "slow"]
    assert [line.message for line in reader.logs(FAILED)] == ["no page"]
    assert [line.message for line in reader.logs(level="warning", service="resources")] == ["slow"]


@pytest.mark.parametrize("where", ["level = 'error'", "WHERE level = 'error'", "where level = 'error' or node_id = 'fetch'"])
def test_a_condition_in_sql_can_be_narrowed(reader: Reader, where: str) -> None:
    for narrowed in ({}, {"ref": FAILED}, {"since_us": LOG_US}, {"until_us": LOG_US + 1_500_000, "ref": FAILED}):
        assert [line.message for line in reader.logs(where=where, **narrowed)] == ["no page"]
    assert reader.logs(COMPLETED, where=where) == []
    with pytest.raises(QueryError):
        reader.logs(where="level = 'error'; drop table logs")


def test_a_folder_without_runs_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nothing was ever started"):
        Reader(tmp_path).runs()
    (tmp_path / "resources.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(StorageError):
        Reader(tmp_path).record("latest")


def test_reading_changes_nothing(tmp_path: Path) -> None:
    storage = prepare(tmp_path / "s").storage
    before = {
        path: path.read_bytes() for path in storage.rglob("*") if path.is_file() and path.suffix not in {".lock", ".sqlite-shm"}
    }
    reader = Reader(storage)
    for ref in (COMPLETED, OPEN):
        reader.show(ref)
        reader.state(ref)
    reader.logs()
    after = {path: path.read_bytes() for path in before}
    assert after == before


def test_reading_imports_no_ray(prepared: Prepared) -> None:
    code = (
        "import sys\nfrom wonder_ray.reading import Reader\n"
        f"reader = Reader({str(prepared.storage)!r})\nreader.show('latest'); reader.state({OPEN!r}); reader.logs()\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_the_registry_can_be_written_meanwhile(reader: Reader) -> None:
    writer = sqlite3.connect(reader.layout.resources, isolation_level=None)
    writer.execute("begin immediate")
    try:
        assert len(reader.runs()) == 4
    finally:
        writer.execute("rollback")
        writer.close()
