"""Opening a registry: which database a place names, and its schema, which is made or brought up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from wonder_ray.errors import StorageError
from wonder_ray.resources.databases.base import DATABASE_ERRORS, Database
from wonder_ray.resources.databases.sqlite import MEMORY, SqliteDatabase
from wonder_ray.resources.records import DEFAULT_PROJECT, DEFAULT_WORKSPACE
from wonder_ray.resources.tables import METADATA, PROJECTS, SCHEMA, SCHEMA_VERSION, WORKSPACES

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

_POSTGRES: Final = ("postgresql", "postgres")


def open_database(place: str | Path, *, read_only: bool = False) -> Database:
    """The database at a path, a `sqlite:///` or a `postgresql://` URL, or `:memory:`; nothing is connected to yet."""
    text = str(place)
    if "://" not in text:
        return SqliteDatabase(text, read_only=read_only)
    kind = text.partition("://")[0].partition("+")[0]
    if kind in _POSTGRES:
        return _open_postgres(text, read_only=read_only)
    if kind == "sqlite":
        try:
            return SqliteDatabase(make_url(text).database or MEMORY, read_only=read_only)
        except ArgumentError:
            pass
    raise StorageError(f"the registry cannot live in {kind!r}: give a path, a sqlite:/// URL or a postgresql:// URL")


def _open_postgres(url: str, *, read_only: bool) -> Database:
    try:
        import psycopg  # noqa: F401 - SQLAlchemy uses it
    except ImportError as error:
        raise StorageError(f"a registry in PostgreSQL needs psycopg: pip install 'wonder-ray[postgres]' ({error})") from error
    from wonder_ray.resources.databases.postgres import PostgresDatabase

    return PostgresDatabase(url, read_only=read_only)


def prepare(database: Database, now_us: int) -> None:
    """Make the tables in a new place, bring old ones up to date. Safe when several processes do it at once.

    Raises:
        StorageError: Something else lives there, it is damaged, or a newer release has been at work.
        ServiceUnavailableError: The database did not answer.
    """
    try:
        database.make_ready()
        with database.alone, database.writing() as connection:
            found = database.version(connection)
            if found is None:
                _create(database, connection, now_us)
            elif found < SCHEMA_VERSION:
                database.check_health(connection)
                upgrade(database, connection, found)
            else:
                check_version(database, found)
                database.check_health(connection)
    except DATABASE_ERRORS as error:
        raise database.translate(error) from error


def check_version(database: Database, found: int | None) -> None:
    """Raise unless this release knows the schema that was found."""
    if found is None:
        raise StorageError(f"{database.name} is empty: nothing was ever started there; is it the right place?")
    if found != SCHEMA_VERSION:
        mend = "use the release that wrote it, or a newer one" if found > SCHEMA_VERSION else "start the platform once"
        raise StorageError(f"{database.name} has schema {found}, this wonder-ray knows {SCHEMA_VERSION}: {mend}")


def upgrade(database: Database, connection: Connection, found: int) -> None:
    """Bring a schema up to date within this transaction."""
    from wonder_ray.resources.migrating import run_migrations  # Alembic takes 250 ms to import

    run_migrations(connection, found)
    database.note_version(connection, SCHEMA_VERSION)


def _create(database: Database, connection: Connection, now_us: int) -> None:
    METADATA.create_all(connection, checkfirst=False)
    workspace = {"workspace_id": DEFAULT_WORKSPACE, "description": "", "created_us": now_us}
    connection.execute(WORKSPACES.insert(), workspace)
    connection.execute(PROJECTS.insert(), workspace | {"project_id": DEFAULT_PROJECT})
    connection.execute(SCHEMA.insert(), {"version_num": f"{SCHEMA_VERSION:04}"})
    database.note_version(connection, SCHEMA_VERSION)
