from __future__ import annotations

from typing import TYPE_CHECKING

import apsw
import pytest

from tests.events.crashes import CrashError
from tests.events.histories import History
from wonder_ray.errors import StorageError
from wonder_ray.events.commit_log import CommitLog
from wonder_ray.events.layout import EventLayout, LogLock
from wonder_ray.events.lines import check_batch
from wonder_ray.events.log_file import check_sqlite_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HISTORY = History(length=30, starts=(1, 11))


@pytest.fixture
def layout(storage: Path) -> EventLayout:
    layout = EventLayout(storage)
    layout.create()
    return layout


@pytest.fixture
def log(layout: EventLayout) -> Iterator[CommitLog]:
    with CommitLog.own(layout.log_path(1)) as log:
        yield log


def append(log: CommitLog, first: int, last: int) -> None:
    batch = HISTORY.batch(first, last)
    with log.transaction():
        log.append(batch, check_batch(batch))


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.51.2"])
def test_an_sqlite_that_may_lose_commits_is_refused(version: str) -> None:
    with pytest.raises(StorageError, match=f"SQLite {version}"):
        check_sqlite_version(version)


@pytest.mark.parametrize("version", ["3.6.23", "3.51.3", "3.52.0", "4.0.0"])
def test_other_versions_are_accepted(version: str) -> None:
    check_sqlite_version(version)


def test_a_commit_is_synced_and_readable_while_the_owner_writes(log: CommitLog) -> None:
    assert (log._pragma("journal_mode"), log._pragma("synchronous")) == ("wal", 2)
    append(log, 1, 10)
    seen: list[int] = []
    with log.transaction():
        log.append(HISTORY.batch(11, 20), check_batch(HISTORY.batch(11, 20)))
        assert CommitLog.visit(log.path, lambda other: seen.append(other.unsealed()[0]))
    assert CommitLog.visit(log.path, lambda other: seen.append(other.unsealed()[0]))
    assert seen == [10, 20]


def test_a_transaction_that_fails_leaves_nothing(log: CommitLog) -> None:
    def fail() -> None:
        with log.transaction():
            log.append(HISTORY.batch(1, 5), check_batch(HISTORY.batch(1, 5)))
            raise CrashError

    with pytest.raises(CrashError):
        fail()
    assert log.unsealed() == (0, 0, 0)
    assert log.marks(HISTORY.run).mark == 0


def test_lines_come_back_byte_by_byte_in_the_order_of_a_file(log: CommitLog) -> None:
    other = History(0, length=5)
    append(log, 1, 4)
    with log.transaction():
        log.append(other.batch(1, 5), check_batch(other.batch(1, 5)))
    append(log, 5, 9)
    stored = log.batches("events", 1, 3)
    assert [(batch.run.workflow_run_id, batch.first) for batch in stored] == [(other.run, 1), (HISTORY.run, 1), (HISTORY.run, 5)]
    assert [batch.lines for batch in stored] == [other.batch(1, 5).lines, HISTORY.batch(1, 4).lines, HISTORY.batch(5, 9).lines]


def test_a_plan_takes_the_oldest_batches_up_to_its_size(log: CommitLog) -> None:
    for first in (1, 5, 9):
        append(log, first, first + 3)
    assert log.next_batches("events", 99, rows_max=8, bytes_max=1 << 20) == (1, 2)
    assert log.next_batches("events", 99, rows_max=1, bytes_max=1 << 20) == (1, 1)
    assert log.next_batches("events", 2, rows_max=99, bytes_max=1 << 20) == (1, 2)
    assert log.next_batches("trace", 99, rows_max=99, bytes_max=1 << 20) is None


def test_sealing_a_plan_removes_its_batches_and_keeps_the_marks(log: CommitLog) -> None:
    append(log, 1, 4)
    append(log, 5, 8)
    with log.transaction():
        plan = log.add_plan("events", (1, 1), [("2026-11-18", 4, [HISTORY.run])])
    assert log.open_plans() == [plan]
    assert log.files_of_run(HISTORY.run, "events") == []
    with log.transaction():
        log.seal(plan, [plan.files[0]._replace(sha256="ab", size=7)], now_us=5)
    assert log.open_plans() == []
    assert log.files_of_run(HISTORY.run, "events") == [plan.files[0].name]
    assert [(file.rows, file.sha256, file.size) for file in log.sealed_files("events")] == [(4, "ab", 7)]
    assert (log.marks(HISTORY.run).mark, log.marks(HISTORY.run).sealed) == (8, 4)


def test_file_names_never_come_twice_even_if_an_instance_number_does(layout: EventLayout) -> None:
    prefixes = set()
    for _ in range(3):
        with CommitLog.own(layout.log_path(7)) as log:
            prefixes.add(log.prefix())
        layout.log_path(7).unlink()
    assert len(prefixes) == 3
    assert all(prefix.startswith("000007-") for prefix in prefixes)


def test_the_remains_of_a_removed_log_do_not_leak_into_a_new_one(layout: EventLayout) -> None:
    path = layout.log_path(1)
    with CommitLog.own(path) as log:
        append(log, 1, 10)
        remains = path.with_name(path.name + "-wal").read_bytes()
    path.unlink()
    path.with_name(path.name + "-wal").write_bytes(remains)
    with CommitLog.own(path) as log:
        assert log.marks(HISTORY.run).mark == 0


def test_files_that_are_no_commit_log_are_refused(layout: EventLayout) -> None:
    with apsw.Connection(str(layout.log_path(1))) as db:
        db.execute("CREATE TABLE t (a); PRAGMA user_version = 3")
    with pytest.raises(StorageError, match="no commit log"):
        CommitLog.own(layout.log_path(1))
    layout.log_path(2).write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match=r"2\.sqlite"):
        CommitLog.own(layout.log_path(2))


def test_a_log_of_a_newer_release_is_refused(log: CommitLog) -> None:
    log._db.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="schema 99"):
        CommitLog.own(log.path)


def test_a_log_that_is_gone_or_empty_shows_nothing(layout: EventLayout) -> None:
    seen: list[CommitLog] = []
    assert not CommitLog.visit(layout.log_path(1), seen.append)
    layout.log_path(1).touch()
    assert CommitLog.visit(layout.log_path(1), seen.append)
    assert seen == []


def test_what_was_seen_in_a_log_that_is_removed_meanwhile_is_not_trusted(log: CommitLog) -> None:
    assert not CommitLog.visit(log.path, lambda _: log.path.unlink())


def test_a_lock_has_one_holder_and_comes_back(layout: EventLayout) -> None:
    path = layout.log_path(1)
    lock = LogLock.try_acquire(path)
    assert lock is not None
    assert LogLock.try_acquire(path) is None
    lock.release(remove=True)
    again = LogLock.try_acquire(path)
    assert again is not None
    again.release()
