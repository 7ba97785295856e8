"""How the registry's SQLite file is opened, and what its errors mean to a caller.

Rollback journal, not WAL: SQLite 3.7.0 to 3.51.2 can corrupt a WAL file that has two or more connections (the WAL-reset
bug), the `sqlite3` module may be linked to any of them, and two clusters on one storage folder are two connections.
Synchronous EXTRA, not FULL: with a deleted journal FULL leaves the deletion in the directory unsynced, so that a power
loss could bring the journal back and undo the last acknowledged commit.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from wonder_ray.errors import ServiceUnavailableError, StorageError, WonderError
from wonder_ray.resources.databases.base import Database
from wonder_ray.resources.tables import APPLICATION_ID
from wonder_ray.storage.filesystem import refuse_network

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

MEMORY: Final = ":memory:"
BUSY_TIMEOUT_S: Final = 30.0
_WRITE: Final = "wonder_write"
_PRAGMAS: Final = ("synchronous=EXTRA", "foreign_keys=ON", "trusted_schema=OFF")


class SqliteDatabase(Database):
    """One file, or (`:memory:`) one connection. Nothing is read or created before the first connection.

    Args:
        path: The file; its folder is created.
        read_only: Refuse to write or to create the file. It is opened writable all the same: after a crash the first reader
            has to roll the journal back.
    """

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self.name = path
        if path == MEMORY:
            self.alone = threading.RLock()  # two threads must not use the one connection at once
            self.engine = _engine(_connect_memory(), StaticPool)
            return
        if not read_only:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            refuse_network(Path(path).parent)
        self.engine = _engine(_connect_file(path, create=not read_only), QueuePool, read_only=read_only)

    def make_ready(self) -> None:
        """See `Database`: leaves WAL, which some other program may have chosen."""
        connection = self.engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode=DELETE")
        finally:
            connection.close()

    def writing(self) -> AbstractContextManager[Connection]:
        """See `Database`: takes the write lock at once, so that no transaction fails half way for want of it."""
        return self.engine.execution_options(**{_WRITE: True}).begin()

    def version(self, connection: Connection) -> int | None:
        """See `Database`."""
        application, version = (_pragma(connection, name) for name in ("application_id", "user_version"))
        if application == APPLICATION_ID:
            return version
        if application == 0 and version == 0 and not connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar():
            return None
        raise StorageError(f"{self.name} is an SQLite file, but not a registry of wonder-ray: is the storage folder right?")

    def note_version(self, connection: Connection, version: int) -> None:
        """See `Database`; releases that know no Alembic look at it."""
        connection.execute(text(f"PRAGMA application_id = {APPLICATION_ID}"))
        connection.execute(text(f"PRAGMA user_version = {version}"))

    def check_health(self, connection: Connection) -> None:
        """See `Database`."""
        if (damage := connection.execute(text("PRAGMA quick_check(1)")).scalar()) != "ok":
            msg = f"{self.name} is damaged ({damage}): restore it from a backup, or move it away and start anew"
            raise StorageError(msg)

    def translate(self, error: Exception) -> WonderError:
        """See `Database`: a held lock is worth another try, anything else is not."""
        cause = _cause(error)
        if "locked" in str(cause):
            return ServiceUnavailableError(f"{self.name} stayed locked for {BUSY_TIMEOUT_S:.0f} s by another process; try again")
        return StorageError(f"{self.name}: {cause}; check the disk (space, permissions, health), then `wonder doctor`")

    def is_unsure(self, error: Exception) -> bool:
        """See `Database`: a write that the disk has failed may be on it or not."""
        return "disk I/O error" in str(_cause(error))

    def is_lost(self, connection: Connection, error: Exception) -> bool:  # noqa: ARG002 - the connection tells
        """See `Database`: a full disk or an I/O error makes SQLite roll back everything, other writes of the group too."""
        return not getattr(connection.connection.driver_connection, "in_transaction", True)

    def copy_in_memory(self) -> SqliteDatabase:
        """What the file holds now, as a database of its own."""
        copy = SqliteDatabase(MEMORY)
        copy.name = self.name
        source, target = self.engine.raw_connection(), copy.engine.raw_connection()
        try:
            from_file: Any = source.driver_connection
            from_file.backup(target.driver_connection)
        finally:
            source.close()
            target.close()
        return copy


def _engine(connect: Callable[[], sqlite3.Connection], pool: type[Any], *, read_only: bool = False) -> Engine:
    sizes = {} if pool is StaticPool else {"pool_size": 16, "max_overflow": 32}
    engine = create_engine("sqlite://", creator=connect, poolclass=pool, **sizes)
    pragmas = (*_PRAGMAS, "query_only=ON") if read_only else _PRAGMAS

    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, below
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", _begin)
    return engine


def _connect_file(path: str, *, create: bool) -> Callable[[], sqlite3.Connection]:
    uri = f"{Path(path).absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
    return lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)


def _connect_memory() -> Callable[[], sqlite3.Connection]:
    return lambda: sqlite3.connect(MEMORY, check_same_thread=False)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN")


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.execute(text(f"PRAGMA {name}")).scalar_one())


def _cause(error: Exception) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
