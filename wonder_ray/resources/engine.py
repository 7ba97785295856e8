"""How the registry's SQLite file is opened, and what its errors mean to a caller.

Rollback journal, not WAL: SQLite 3.7.0 to 3.51.2 can corrupt a WAL file that has two or more connections (the WAL-reset
bug), the `sqlite3` module may be linked to any of them, and two clusters on one storage folder are two connections.
Synchronous EXTRA, not FULL: with a deleted journal FULL leaves the deletion in the directory unsynced, so that a power
loss could bring the journal back and undo the last acknowledged commit.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool

from wonder_ray.errors import ServiceUnavailableError, StorageError, WonderError
from wonder_ray.resources.tables import APPLICATION_ID, METADATA, SCHEMA_VERSION

if TYPE_CHECKING:
    from sqlalchemy import Connection

MEMORY: Final = ":memory:"
BUSY_TIMEOUT_S: Final = 30.0
DATABASE_ERRORS: Final = (SQLAlchemyError, sqlite3.Error)
"""While a connection is being set up, the driver's own errors come through."""
_WRITE: Final = "wonder_write"
_ADDED_IN_2: Final = ("parent_token_id TEXT", "depth INTEGER DEFAULT '0' NOT NULL", "fork BLOB")
_PRAGMAS: Final = ("synchronous=EXTRA", "foreign_keys=ON", "trusted_schema=OFF")


def sqlite_path(url_or_path: str | Path) -> str:
    """The file (or `:memory:`) that a path or a `sqlite:///` URL names."""
    if "://" not in str(url_or_path):
        return str(url_or_path)
    url = make_url(str(url_or_path))
    if url.get_backend_name() != "sqlite":
        msg = f"the registry cannot live in {url.get_backend_name()!r} yet: give a path or a sqlite:/// URL"
        raise StorageError(msg)
    return url.database or MEMORY


def open_engine(path: str, *, read_only: bool = False) -> Engine:
    """An engine on one SQLite file; nothing is read or created before the first connection.

    `read_only` refuses to write or to create the file, but still opens it writable: after a crash the first reader has to
    roll the journal back.
    """
    engine = create_engine(
        _url(path, create=not read_only),
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        **({"poolclass": StaticPool} if path == MEMORY else {"poolclass": QueuePool, "pool_size": 16, "max_overflow": 32}),
    )
    pragmas = (*_PRAGMAS, "query_only=ON") if read_only else _PRAGMAS

    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, below
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", _begin)
    return engine


def writing(engine: Engine) -> Engine:
    """The same engine, whose transactions take the write lock at once: none fails half way for want of it."""
    return engine.execution_options(**{_WRITE: True})


def prepare_schema(engine: Engine, path: str) -> None:
    """Create the tables in a new file; check an old one. Safe when two processes do it at once."""
    if path != MEMORY:
        _leave_wal(engine)
    with writing(engine).begin() as connection:
        found = _pragma(connection, "user_version")
        application = _pragma(connection, "application_id")
        if found == 0 and application == 0:
            METADATA.create_all(connection)
            connection.execute(text(f"PRAGMA application_id = {APPLICATION_ID}"))
            connection.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))
            return
        _upgrade(connection, application, found)
        check_schema(connection, path)
        if (damage := connection.execute(text("PRAGMA quick_check(1)")).scalar()) != "ok":
            msg = f"{path} is damaged ({damage}): restore it from a backup, or move it away and start anew"
            raise StorageError(msg)


def _upgrade(connection: Connection, application: int, version: int) -> None:
    if application == APPLICATION_ID and version == 1:
        for column in _ADDED_IN_2:
            connection.execute(text(f"ALTER TABLE runs ADD COLUMN {column}"))
        connection.execute(text("PRAGMA user_version = 2"))


def check_schema(connection: Connection, path: str) -> None:
    """Raise unless this file is a registry that this release can read."""
    if _pragma(connection, "application_id") != APPLICATION_ID:
        msg = f"{path} is an SQLite file, but not a registry of wonder-ray: is the storage folder right?"
        raise StorageError(msg)
    if (found := _pragma(connection, "user_version")) != SCHEMA_VERSION:
        msg = f"{path} has schema {found}, this wonder-ray knows {SCHEMA_VERSION}: use the release that wrote it, or a newer one"
        raise StorageError(msg)


def translate(error: Exception, path: str) -> WonderError:
    """A database error as one of ours: a held lock is worth another try, anything else is not."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if "locked" in str(cause):
        return ServiceUnavailableError(f"{path} stayed locked for {BUSY_TIMEOUT_S:.0f} s by another process; try again")
    return StorageError(f"{path}: {cause}; check the disk (space, permissions, health), then `wonder doctor`")


def _url(path: str, *, create: bool) -> URL:
    if path == MEMORY:
        return URL.create("sqlite", database=MEMORY)
    mode = "rwc" if create else "rw"
    return URL.create("sqlite", database=Path(path).absolute().as_uri(), query={"mode": mode, "uri": "true"})


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN")


def _leave_wal(engine: Engine) -> None:
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.execute(text(f"PRAGMA {name}")).scalar_one())
