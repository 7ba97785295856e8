"""The SQLite file: how it is opened, what is refused, what a failing write or disk does."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import OperationalError

from wonder_ray.errors import StorageError
from wonder_ray.resources.store import ResourcesStore

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection


def test_the_file_is_synced_at_every_commit_and_not_in_wal_mode(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "r.sqlite") as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table gone (x)")
        connection.execute("drop table gone")
    connection.close()
    store = ResourcesStore(f"sqlite:///{tmp_path}/r.sqlite")
    with store._database.engine.connect() as sql:
        found = [sql.exec_driver_sql(f"pragma {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert found == ["delete", 3, 1]
    store.close()


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database at all, " * 100)
    with pytest.raises(StorageError, match="not a database"):
        ResourcesStore(tmp_path / "text")
    connection = sqlite3.connect(tmp_path / "foreign")
    connection.execute("pragma application_id = 5")
    connection.close()
    with pytest.raises(StorageError, match="not a registry"):
        ResourcesStore(tmp_path / "foreign")
    connection = sqlite3.connect(tmp_path / "tables")
    connection.execute("create table runs (x)")
    connection.close()
    with pytest.raises(StorageError, match="not a registry"):
        ResourcesStore(tmp_path / "tables")
    with pytest.raises(StorageError, match="mysql"):
        ResourcesStore("mysql://host/db")


def test_a_write_that_fails_takes_no_other_with_it(store: ResourcesStore) -> None:
    def broken(connection: Connection) -> None:
        connection.exec_driver_sql("insert into service_epochs values ('half', 1)")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store._write("broken", broken)
    assert store.take_service_epoch("half") == 1


def test_a_disk_error_calls_for_a_crash(tmp_path: Path) -> None:
    crashes: list[bool] = []
    store = ResourcesStore(tmp_path / "r", on_io_error=lambda: crashes.append(True))

    def failing(_connection: Connection) -> None:
        statement = "commit"
        raise OperationalError(statement, None, sqlite3.OperationalError("disk I/O error"))

    with pytest.raises(StorageError, match="disk I/O error"):
        store._write("failing", failing)
    assert crashes == [True]
    store.close()
