"""Databases of earlier releases: each is brought up to date when it is opened, and loses nothing."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, Table, inspect, text

from tests.resources.test_processes import begin, spawn
from wonder_ray.errors import StorageError
from wonder_ray.resources import migrating
from wonder_ray.resources.databases.opening import open_database
from wonder_ray.resources.reader import ResourcesReader
from wonder_ray.resources.records import RunFilter, StartRequest
from wonder_ray.resources.store import ResourcesStore
from wonder_ray.resources.tables import METADATA, SCHEMA_VERSION, VERSION_TABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection

FILES = Path(__file__).parent / "files"
EARLIER = range(1, SCHEMA_VERSION)
Rows = dict[str, list[dict[str, Any]]]


def run_id(number: int) -> str:
    return f"run_{number:012x}_{number:016x}"


def restore(version: int, place: str) -> Rows:
    """What a release with this schema left behind, and its rows."""
    script = (FILES / f"schema_{version}.sql").read_text()
    is_file = not place.startswith("postgresql")
    with closing(sqlite3.connect(place if is_file else ":memory:")) as connection:
        connection.executescript(script)
        if not is_file:
            _copy(connection, place, version)
    return rows_at(place)


def _copy(source: sqlite3.Connection, place: str, version: int) -> None:
    source.row_factory = sqlite3.Row
    with closing(open_database(place)) as database, database.writing() as target:
        migrating.run_migrations(target, 0, f"{version:04}")
        for name in ("definitions", "runs", "service_epochs"):
            found = [dict(row) for row in source.execute(f"SELECT * FROM {name}")]
            target.execute(Table(name, MetaData(), autoload_with=target).insert(), found)
        for name in ("definitions", "runs"):
            target.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'ordinal'), (SELECT max(ordinal) FROM {name}))"))


def rows_at(place: str) -> Rows:
    with closing(open_database(place)) as database, database.engine.connect() as connection:
        return rows(connection)


def rows(connection: Connection) -> Rows:
    names = [name for name in inspect(connection).get_table_names() if name not in {VERSION_TABLE, "sqlite_sequence"}]
    return {
        name: sorted((dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {name}"))), key=str) for name in names
    }


def shape(place: str) -> dict[str, Any]:
    """Tables, their columns, keys and indexes, whatever order they were made in."""
    with closing(open_database(place)) as database, database.engine.connect() as connection:
        found = inspect(connection)
        strict = {}
        if not place.startswith("postgresql"):
            strict = {row.name: (row.wr, row.strict) for row in connection.execute(text("PRAGMA table_list"))}
        return {
            name: (
                strict.get(name),
                sorted((c["name"], str(c["type"]), c["nullable"], c["default"]) for c in found.get_columns(name)),
                found.get_pk_constraint(name)["constrained_columns"],
                sorted((i["name"] or "", i["column_names"], i["unique"]) for i in found.get_indexes(name)),
                sorted(sorted(u["column_names"]) for u in found.get_unique_constraints(name)),
                sorted((f["constrained_columns"], f["referred_table"]) for f in found.get_foreign_keys(name)),
                len(found.get_check_constraints(name)),
            )
            for name in found.get_table_names()
        }


@pytest.fixture
def new_place(request: pytest.FixtureRequest, tmp_path: Path, shared_place: str) -> Any:
    """A second place of the same kind."""
    if not shared_place.startswith("postgresql"):
        yield str(tmp_path / "new.sqlite")
        return
    server = request.getfixturevalue("postgres_server")
    url = server.schema()
    yield url
    server.drop(url)


def test_there_is_a_database_of_every_earlier_release() -> None:
    assert sorted(path.name for path in FILES.glob("schema_*.sql")) == [f"schema_{version}.sql" for version in EARLIER]


@pytest.mark.parametrize("version", EARLIER)
def test_an_older_registry_keeps_every_value_and_gets_the_shape_of_a_new_one(
    shared_place: str, new_place: str, version: int
) -> None:
    before = restore(version, shared_place)
    assert before["runs"]
    ResourcesStore(shared_place).close()
    ResourcesStore(new_place).close()
    assert shape(shared_place) == shape(new_place)
    after = rows_at(shared_place)
    for name, found in before.items():
        assert sorted(({column: row[column] for column in found[0]} for row in after[name]), key=str) == found


@pytest.mark.parametrize("version", EARLIER)
def test_workspaces_projects_and_labels_of_an_older_registry_are_known(shared_place: str, version: int) -> None:
    restore(version, shared_place)
    store = ResourcesStore(shared_place)
    assert [each.workspace_id for each in store.workspaces.all()] == ["default", "other"]
    assert [each.project_id for each in store.workspaces.list_projects("other")] == ["default", "p"]
    assert [run.run_id for run in store.list_runs(RunFilter(labels={"team": "x"})).runs] == [run_id(1)]
    store.close()


@pytest.mark.parametrize("version", EARLIER)
def test_runs_of_an_older_registry_go_on(shared_place: str, version: int) -> None:
    restore(version, shared_place)
    store = ResourcesStore(shared_place)
    run, created = store.create_run(StartRequest(workflow_name="crawl", key="k4"))
    assert not created
    assert (run.depth, run.parent_token_id, run.fork) == (0, None, None)
    assert store.take_epoch(run.run_id, 0, None) == 1
    assert store.take_epoch(run_id(1), 0, None) == 6
    assert store.take_service_epoch("events") == 3
    new, created = store.create_run(StartRequest(workflow_name="crawl"))
    assert created
    assert store.list_runs(limit=1).runs == [new]
    store.close()


def test_the_tables_are_what_the_revisions_make(new_place: str) -> None:
    """Both for a database that went through all of them, and for a new one, where they are made at once."""
    database = open_database(new_place)
    with database.writing() as connection:
        migrating.run_migrations(connection, 0)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []
        assert context.get_current_revision() == f"{SCHEMA_VERSION:04}"
    database.close()


def test_an_upgrade_that_fails_changes_nothing(shared_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = restore(1, shared_place)
    whole = shape(shared_place)

    def broken(connection: Connection, found: int) -> None:
        migrate(connection, found)
        raise StorageError("the lights went out")

    migrate = migrating.run_migrations
    with monkeypatch.context() as patched:
        patched.setattr(migrating, "run_migrations", broken)
        with pytest.raises(StorageError, match="lights"):
            ResourcesStore(shared_place)
    assert shape(shared_place) == whole
    assert rows_at(shared_place) == before
    ResourcesStore(shared_place).close()


def test_two_that_open_an_older_registry_at_once_upgrade_it_once(shared_place: str) -> None:
    restore(1, shared_place)
    opened: list[int] = []

    def work() -> None:
        store = ResourcesStore(shared_place)
        opened.append(len(store.list_runs(workspace_id="other").runs))
        store.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [1] * 4


OPEN = """
import sys
import wonder_ray.resources.migrating
from wonder_ray.resources.store import ResourcesStore
print("ready", flush=True)
sys.stdin.readline()
store = ResourcesStore(sys.argv[1])
print(len(store.list_runs(workspace_id="other").runs), store.take_service_epoch("events"))
"""


def test_two_processes_that_open_an_older_registry_at_once_upgrade_it_once(shared_place: str) -> None:
    restore(1, shared_place)
    both = [spawn(OPEN, shared_place), spawn(OPEN, shared_place)]
    begin(both)
    told = sorted(process.communicate(timeout=60)[0] for process in both)
    assert told == ["1 3\n", "1 4\n"]
    assert [process.returncode for process in both] == [0, 0]


def test_a_reader_reads_an_older_file_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "resources.sqlite"
    restore(1, str(path))
    before = path.read_bytes()
    with ResourcesReader(tmp_path) as reader:
        assert [run.run_id for run in reader.list_runs().runs] == [run_id(number) for number in (4, 2, 1)]
        assert reader.list_runs(labels={"team": "x"}).runs[0].depth == 0
    assert path.read_bytes() == before


def test_a_registry_of_a_newer_release_is_refused(shared_place: str) -> None:
    ResourcesStore(shared_place).close()
    database = open_database(shared_place)
    with database.writing() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0099'"))
        database.note_version(connection, 99)
    database.close()
    with pytest.raises(StorageError, match="schema 99"):
        ResourcesStore(shared_place)


def test_opening_imports_alembic_only_to_migrate(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys; from wonder_ray.resources.store import ResourcesStore; ResourcesStore(sys.argv[1]).close(); "
        "print([m for m in ('alembic', 'cryptography', 'psycopg') if m in sys.modules])"
    )
    for _ in range(2):
        found = subprocess.check_output([sys.executable, "-c", script, tmp_path / "r"], text=True, cwd=Path(__file__).parents[2])
        assert found == "[]\n"
