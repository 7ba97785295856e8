"""What may be opened as a run's file, with which settings, and what lies in it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import pytest

from tests.storage.samples import RUN_ID, full_token, lines, loaded, names_beside, record, write_turns
from wonder_ray.errors import StorageError
from wonder_ray.state import Run
from wonder_ray.storage import opening, schema
from wonder_ray.storage.lock import RunLock
from wonder_ray.storage.sqlite import SqliteRunStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.sqlite"


# --- what may be opened --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 5000])
def test_a_file_that_is_no_runs_file_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read_only in (True, False):
        with pytest.raises(StorageError, match="move it away"):
            SqliteRunStore(path, read_only=read_only)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as other:
        other.execute("CREATE TABLE tokens (x)")
    with pytest.raises(StorageError, match="not a run's file"):
        SqliteRunStore(path)


@pytest.mark.parametrize("version", ["3.7.0", "3.45.1", "3.51.2", "3.6.0"])
def test_a_sqlite_that_can_lose_commits_is_refused(version: str) -> None:
    with pytest.raises(StorageError, match="pip install -U apsw"):
        opening.check_version(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.54.1", "4.0.0"])
def test_a_sound_sqlite_is_accepted(version: str) -> None:
    opening.check_version(version)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere.*--storage or WONDER_STORAGE"):
        SqliteRunStore(tmp_path / "nowhere" / "run.sqlite")


# --- settings, size, schema ----------------------------------------------------------------------------------------


def test_the_settings_that_durability_rests_on_are_in_force(path: Path) -> None:
    with SqliteRunStore(path) as store:
        assert store.durability() == {
            "sqlite": apsw.sqlite_lib_version(),
            "journal_mode": "wal",
            "synchronous": 2,
            "locking_mode": "exclusive",
            "foreign_keys": 1,
            "trusted_schema": 0,
            "page_size": 2048,
            "user_version": len(schema.MIGRATIONS),
        }


def test_an_idle_run_is_one_small_private_file(path: Path) -> None:
    with SqliteRunStore(path) as store:
        store.take_epoch(1)
        store.commit(record(1, tokens=[full_token()], events=lines(1, 8)))
        store.checkpoint()
        log = path.with_name(path.name + "-wal")
        assert log.stat().st_size == 0
    assert names_beside(path) == [path.name]
    assert path.stat().st_size <= 32 * 1024
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_table_is_strict_and_has_no_index_beside_its_key(path: Path) -> None:
    write_turns(path)
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        tables = connection.execute(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'"
        )
        found = {str(name): strict for name, strict in tables}
        indexes = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    assert set(found.values()) == {1}
    assert {"meta", "run", "tokens", "groups", "fanouts", "context_log", "iterations", "handled", "outbox"} <= set(found)
    assert indexes == []


def test_what_people_ask_of_a_run_can_be_asked_in_sql(path: Path) -> None:
    write_turns(path)
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        asked = "SELECT id, node_id, status, path_id, branch_index, attempt, due_us, json_extract(input, '$.url') FROM tokens"
        assert connection.execute(asked).fetchall() == [
            ("t_1", "nœud", "waiting_for_retry", "root.A.2", 2, 3, 1_700_000_000_000_000, "x")
        ]
        assert connection.execute("SELECT json_extract(error, '$.type') FROM tokens").fetchall() == [("Timeout",)]
        assert connection.execute("SELECT cast(lines AS text) FROM outbox").fetchall() == [('{"sequence_number":1}',)]


def test_an_older_file_is_migrated_when_it_is_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_turns(path)
    newer = (*schema.MIGRATIONS, "CREATE TABLE later (x INTEGER) STRICT; INSERT INTO later SELECT ordinal FROM tokens")
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    with SqliteRunStore(path, read_only=True) as reader:
        assert reader.durability()["user_version"] == len(newer)
    with SqliteRunStore(path) as store:
        assert store.durability()["user_version"] == len(newer)
        assert loaded(store).tokens == [full_token()]


def test_a_file_of_a_newer_release_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_turns(path)
    with closing(apsw.Connection(str(path))) as other:
        other.pragma("user_version", 99)
    with pytest.raises(StorageError, match="update this one"):
        SqliteRunStore(path)


def test_a_migration_that_fails_leaves_the_file_as_it_was() -> None:
    connection = apsw.Connection(":memory:")
    opening.migrate(connection, ("CREATE TABLE a (x);",), "test")
    with pytest.raises(apsw.SQLError):
        opening.migrate(connection, ("CREATE TABLE a (x);", "CREATE TABLE b (x);", "CREATE TABLE a (x);"), "test")
    connection.execute("ROLLBACK")
    assert connection.pragma("user_version") == 1
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("a",)]


def test_the_template_is_what_the_migrations_make(path: Path) -> None:
    opening.template.cache_clear()
    write_turns(path)
    made = apsw.Connection(":memory:")
    opening.migrate(made, schema.MIGRATIONS, "test")
    asked = "SELECT name, sql FROM sqlite_schema ORDER BY name"
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        assert connection.execute(asked).fetchall() == made.execute(asked).fetchall()


def test_a_large_input_is_not_written_again_by_every_turn(path: Path) -> None:
    with SqliteRunStore(path) as store:
        store.take_epoch(1)
        run = Run(run_id=RUN_ID, input="x" * 1_000_000)
        store.commit(record(run=run))
        store.checkpoint()
        run.turn = 2
        store.commit(record(run=run))
        assert path.with_name(path.name + "-wal").stat().st_size < 50_000


def test_an_exclusive_store_and_its_lock_are_two_things(path: Path) -> None:
    lock = RunLock(path.with_suffix(".lock"))
    assert lock.try_acquire({"pid": 1, "host": "elsewhere"})
    with SqliteRunStore(path), pytest.raises(StorageError, match=r"pid 1 on elsewhere"):
        SqliteRunStore(path, read_only=True)
    lock.release()
