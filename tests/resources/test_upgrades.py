"""Files of earlier releases: each is brought up to date when it is opened, and loses nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from wonder_ray.resources.records import StartRequest
from wonder_ray.resources.store import ResourcesStore

FILES = Path(__file__).parent / "files"


def restore(version: int, path: Path) -> dict[str, list[tuple[object, ...]]]:
    """The file that a release with this schema left behind, and its rows."""
    with sqlite3.connect(path) as connection:
        connection.executescript((FILES / f"schema_{version}.sql").read_text())
    found = rows(connection)
    connection.close()
    return found


def rows(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: connection.execute(f'SELECT * FROM "{name}" ORDER BY rowid').fetchall() for name in names}


def columns(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Each table's columns: name, type, NOT NULL, default, key."""
    return {name: sorted(row[1:] for row in connection.execute(f'PRAGMA table_info("{name}")')) for name in rows(connection)}


@pytest.mark.parametrize("version", [1])
def test_an_older_file_keeps_every_value_and_gets_the_new_columns(tmp_path: Path, version: int) -> None:
    before = restore(version, tmp_path / "old")
    ResourcesStore(tmp_path / "old").close()
    ResourcesStore(tmp_path / "new").close()
    with sqlite3.connect(tmp_path / "old") as old, sqlite3.connect(tmp_path / "new") as new:
        assert columns(old) == columns(new)
        after = rows(old)
    assert {name: len(found) for name, found in after.items()} == {name: len(found) for name, found in before.items()}
    for name, found in before.items():
        assert [row[: len(found[0])] for row in after[name]] == found
    old.close()
    new.close()


def test_runs_of_an_older_file_go_on(tmp_path: Path) -> None:
    restore(1, tmp_path / "old")
    store = ResourcesStore(tmp_path / "old")
    run, created = store.create_run(StartRequest(workflow_name="crawl", key="k4"))
    assert not created
    assert (run.depth, run.parent_token_id, run.fork) == (0, None, None)
    assert store.take_epoch(run.run_id, 0, None) == 1
    assert store.take_service_epoch("events") == 3
    assert store.create_run(StartRequest(workflow_name="crawl"))[1]
    store.close()
