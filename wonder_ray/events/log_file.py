"""One SQLite file of the event service: how it is opened, checked, migrated, and what its errors mean.

WAL with synchronous FULL: a commit is on disk when it returns, and readers in other processes read while the owner writes.

>>> LogFile.own(Path("1.sqlite")).prefix()  # doctest: +SKIP
'000001-5f2c91aa'
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

import apsw

from wonder_ray.errors import ServiceUnavailableError, StorageError
from wonder_ray.events.layout import sync_dir
from wonder_ray.events.log_schema import APPLICATION_ID, MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Mode: TypeAlias = Literal["own", "neighbour", "read"]

BUSY_TIMEOUT_MS: Final = 30_000
_FIRST_SOUND_SQLITE: Final = (3, 51, 3)
_FIRST_WAL_SQLITE: Final = (3, 7, 0)


def check_sqlite_version(version: str) -> None:
    """Refuse an SQLite that can lose committed pages of a WAL file with two connections (the WAL-reset bug)."""
    found = tuple(int(part) for part in version.split(".")[:3])
    if _FIRST_WAL_SQLITE <= found < _FIRST_SOUND_SQLITE:
        msg = f"SQLite {version} can corrupt a WAL file (3.7.0 to 3.51.2 do): install apsw 3.51.3 or newer"
        raise StorageError(msg)


class LogFile:
    """An open file. Not for several threads at once."""

    def __init__(self, path: Path, mode: Mode) -> None:
        check_sqlite_version(apsw.sqlite_lib_version())
        self.path = path
        try:
            self._db = _connect(path, mode)
        except apsw.Error as error:
            raise self._translate(error) from error
        try:
            self._prepare(mode)
        except BaseException:
            self.close()
            raise

    @classmethod
    def own(cls, path: Path) -> Self:
        """Open as the one owner (who holds its lock), creating and migrating the file."""
        if path.exists():
            return cls(path, "own")
        for suffix in ("-wal", "-shm"):  # left by an earlier file of this name; SQLite would replay them into the new one
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        log = cls(path, "own")
        sync_dir(path.parent)
        return log

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Open to read, in any process, while its owner writes; None if it is gone, or was never finished."""
        return cls._open_existing(path, "read")

    @classmethod
    def _open_existing(cls, path: Path, mode: Mode) -> Self | None:
        try:
            log = cls(path, mode)
        except StorageError as error:
            if isinstance(error.__cause__, apsw.CantOpenError) and not path.exists():
                return None
            raise
        if log._pragma("user_version") == 0:
            log.close()
            return None
        return log

    @classmethod
    def visit(cls, path: Path, look: Callable[[Self], None], mode: Literal["neighbour", "read"] = "read") -> bool:
        """Show the log to `look`, in one transaction (a snapshot, if only read); False if it was adopted before that ended.

        An adopted log is removed, and who has it open may see an old state of it, or an error: do not trust what was seen.
        """
        try:
            before = path.stat()
            log = cls._open_existing(path, mode)
            if log is None:
                return path.exists()  # a file without a schema knows nothing yet
            with log, log.transaction() if mode == "neighbour" else log.snapshot():
                look(log)
            return os.path.samestat(before, path.stat())
        except FileNotFoundError:
            return False
        except StorageError:
            if path.exists():
                raise
            return False

    def close(self) -> None:
        """Close the file; an open transaction is rolled back."""
        self._db.close(force=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One durable transaction: it is on disk when the block ends, or nothing of it is."""
        self._all("BEGIN IMMEDIATE")
        try:
            yield
            self._all("COMMIT")
        except BaseException:
            self._rollback()
            raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of a transaction that is undone alone when its block fails."""
        self._all("SAVEPOINT part")
        try:
            yield
        except Exception:
            self._all("ROLLBACK TO part")
            raise
        finally:
            self._all("RELEASE part")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several reads that see one state of the log."""
        self._all("BEGIN")
        try:
            yield
        finally:
            self._rollback()

    def _prepare(self, mode: Mode) -> None:
        application, version = self._pragma("application_id"), self._pragma("user_version")
        if application not in {0, APPLICATION_ID} or (application == 0 and version != 0):
            msg = f"{self.path} is an SQLite file, but no commit log of wonder-ray: is the storage folder right?"
            raise StorageError(msg)
        if version > len(MIGRATIONS):
            msg = f"{self.path} has schema {version}, this wonder-ray knows {len(MIGRATIONS)}: use the release that wrote it"
            raise StorageError(msg)
        if mode == "own":
            if version and (damage := self._pragma("quick_check(1)")) != "ok":
                msg = f"{self.path} is damaged ({damage}): move it away; runs then send again what their own files still hold"
                raise StorageError(msg)
            self._migrate(version)

    def _migrate(self, version: int) -> None:
        if version == len(MIGRATIONS):
            return
        with self.transaction():
            for script in MIGRATIONS[version:]:
                self._db.execute(script)
            if version == 0:
                prefix = f"{int(self.path.stem):06d}-{secrets.token_hex(4)}"
                self._all("INSERT INTO meta (key, value) VALUES ('prefix', ?)", prefix)
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def prefix(self) -> str:
        """What the names of this log's files begin with: the instance, and a random part, so that no name comes twice."""
        return self._meta("prefix")

    def _meta(self, key: str) -> str:
        return str(self._one("SELECT value FROM meta WHERE key = ?", key))

    def _pragma(self, name: str) -> Any:
        return self._one(f"PRAGMA {name}")

    def _one(self, sql: str, *values: object) -> Any:
        rows = self._all(sql, *values)
        return rows[0][0] if rows else None

    def _all(self, sql: str, *values: object) -> list[Any]:
        try:
            return list(self._db.execute(sql, values))
        except apsw.Error as error:
            raise self._translate(error) from error

    def _rollback(self) -> None:
        if not self._db.get_autocommit():
            self._db.execute("ROLLBACK")

    def _translate(self, error: apsw.Error) -> StorageError | ServiceUnavailableError:
        if isinstance(error, apsw.FullError):
            return ServiceUnavailableError(f"{self.path}: the disk is full; nothing is lost, free some space")
        if isinstance(error, apsw.BusyError):
            return ServiceUnavailableError(f"{self.path} stayed locked for {BUSY_TIMEOUT_MS} ms by another process; try again")
        return StorageError(f"{self.path}: {error}; check the disk (space, permissions, health), then `wonder doctor`")


def _open(path: Path, flags: int) -> apsw.Connection:
    archived = flags & apsw.SQLITE_OPEN_READONLY and not os.access(path.parent, os.W_OK) and path.exists()
    if archived and not path.with_name(path.name + "-wal").exists():
        # Nobody writes here, and SQLite could not make the shared memory that readers of a live WAL file need.
        return apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=flags | apsw.SQLITE_OPEN_URI)
    return apsw.Connection(str(path), flags=flags)


def _connect(path: Path, mode: Mode) -> apsw.Connection:
    access = apsw.SQLITE_OPEN_READONLY if mode == "read" else apsw.SQLITE_OPEN_READWRITE
    flags = access | (apsw.SQLITE_OPEN_CREATE if mode == "own" else 0)
    db = _open(path, flags)
    db.set_busy_timeout(BUSY_TIMEOUT_MS)
    if mode == "own":
        db.execute("PRAGMA page_size = 8192")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA journal_size_limit = 67108864")
    for pragma in ("synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        db.execute(f"PRAGMA {pragma}")
    return db
