"""Opening a run's file: made from a template, checked, migrated; and what its errors mean.

A new file appears whole and at once: the image of an empty file with the schema is written aside, synced, and linked to
its name. (That takes a third of the time of making the tables in place, and a crash leaves no half-made file.)
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING, Final

import apsw

from wonder_ray.errors import StorageError
from wonder_ray.storage import schema
from wonder_ray.storage.filesystem import refuse_network
from wonder_ray.storage.lock import read_holder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FIRST_AFFECTED: Final = (3, 7, 0)
LAST_AFFECTED: Final = (3, 51, 2)
BUSY_MS: Final = 2_000
"""How long a coordinator waits for readers, which hold a file for milliseconds."""
READER_BUSY_MS: Final = 300


def open_writer(path: Path, vfs: str | None) -> apsw.Connection:
    """The one connection that holds a run's file; makes the file when there is none."""
    check_version(apsw.sqlite_lib_version())
    refuse_network(path.parent)
    try:
        new = _create(path)
    except OSError as error:
        msg = f"the run's file {path} cannot be made: {error.strerror}; choose another folder with --storage or WONDER_STORAGE"
        raise StorageError(msg) from error
    with _explained(path, "open"):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        with _explained(path, "open"):
            connection.set_busy_timeout(BUSY_MS)
            connection.execute(schema.WRITER_PRAGMAS).fetchall()  # to the end: each pragma answers with a row
            _check(connection, path, new=new)
            migrate(connection, schema.MIGRATIONS, path)
            _check_settings(connection, path)
        # Left by a reader of an unclean file; nobody can use it while the file is held here.
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
    except BaseException:
        abandon(connection)
        raise
    return connection


def open_snapshot(path: Path, vfs: str | None) -> apsw.Connection:
    """A copy in memory of what is committed in a run's file, its log included; the file is let go at once."""
    check_version(apsw.sqlite_lib_version())
    if not path.exists():
        msg = (
            f"there is no run file {path}; is the run in another storage folder (--storage, WONDER_STORAGE), or on another node?"
        )
        raise StorageError(msg)
    snapshot = apsw.Connection(":memory:")
    try:
        with _explained(path, "read"):
            source = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
            try:
                source.set_busy_timeout(READER_BUSY_MS)
                with snapshot.backup("main", source, "main") as backup:
                    while not backup.done:
                        backup.step(-1)
            finally:
                abandon(source)
            _check(snapshot, path, new=False)
            migrate(snapshot, schema.MIGRATIONS, path)
            snapshot.execute(schema.READER_PRAGMAS).fetchall()
    except BaseException:
        abandon(snapshot)
        raise
    return snapshot


def close(connection: apsw.Connection, path: Path) -> None:
    """Close in good order, which moves the log into the file and removes it."""
    with _explained(path, "close"):
        connection.close()


def abandon(connection: apsw.Connection) -> None:
    """Close without a checkpoint: after a failed sync nothing may be copied out of a log that may not be on the disk."""
    with contextlib.suppress(apsw.Error):
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close(True)  # noqa: FBT003 - force; its parameter is positional


def check_version(version: str) -> None:
    """Raise if this SQLite can damage a write-ahead log that is reset (fixed in 3.51.3)."""
    number = tuple(int(part) for part in version.split("."))
    if FIRST_AFFECTED <= number <= LAST_AFFECTED or number < FIRST_AFFECTED:
        msg = f"SQLite {version} can lose committed data (the WAL-reset bug, fixed in 3.51.3); update it: pip install -U apsw"
        raise StorageError(msg)


def migrate(connection: apsw.Connection, migrations: Sequence[str], path: Path | str) -> None:
    """Bring a file to the newest schema, in one transaction; a file of a newer release is refused."""
    version = connection.pragma("user_version")
    if version > len(migrations):
        msg = (
            f"{path} has schema version {version}, this release knows {len(migrations)}: it was written by a newer wonder-ray; "
            "update this one: pip install -U wonder-ray"
        )
        raise StorageError(msg)
    if version == len(migrations):
        return
    connection.execute(schema.BEGIN)
    for script in migrations[version:]:
        connection.execute(script).fetchall()
    connection.pragma("user_version", len(migrations))
    connection.execute("COMMIT")


def damaged(path: Path, what: str, detail: object) -> StorageError:
    """The error for a file whose content cannot be right."""
    return StorageError(f"{path}: cannot {what}: it is damaged ({detail}); move it away, and the run is rebuilt from its events")


def explain(error: apsw.Error, path: Path, what: str) -> StorageError:
    """The `StorageError` that says what an error of SQLite means here, and what to do."""
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        holder = _holder(path)
        return StorageError(f"{path}: cannot {what}: it is in use by {holder}; ask that one, or stop it first")
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return damaged(path, what, error)
    if isinstance(error, apsw.FullError):
        return StorageError(f"{path}: cannot {what}: the disk is full; free some space, then start the run again: it goes on")
    if isinstance(error, apsw.ConstraintError):
        return StorageError(f"{path}: cannot {what}: {error}; something was stored twice, and nothing of this turn was stored")
    if isinstance(error, (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError)):
        return StorageError(
            f"{path}: cannot {what}: {error}; check the disk and the folder's permissions, then start the run again"
        )
    return StorageError(f"{path}: cannot {what}: {type(error).__name__}: {error}")


def _holder(path: Path) -> str:
    info = read_holder(path.with_suffix(".lock"))
    if info is None:
        return "another process"
    return f"its coordinator (pid {info.get('pid', 'unknown')} on {info.get('host', 'this host')})"


@contextlib.contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise explain(error, path, what) from error


def _check(connection: apsw.Connection, path: Path, *, new: bool) -> None:
    if connection.pragma("application_id") != schema.APPLICATION_ID:
        msg = f"{path} is not a run's file of wonder-ray (its application id differs); move it away"
        raise StorageError(msg)
    if not new:
        answer = connection.execute(schema.QUICK_CHECK).fetchall()
        if answer != [("ok",)]:
            raise damaged(path, "open", answer[0][0])


def _check_settings(connection: apsw.Connection, path: Path) -> None:
    """What the durability of every commit rests on is read back, never assumed."""
    found = {name: connection.pragma(name) for name in schema.SETTINGS}
    if found != dict(schema.SETTINGS):
        msg = f"{path} cannot be used safely here: SQLite runs it with {found}, not with {dict(schema.SETTINGS)}"
        raise StorageError(msg)


def _create(path: Path) -> bool:
    """Make the file unless it is there; whether it was made."""
    if path.exists():
        return False
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, template())
        os.fsync(fd)
        # `link` refuses to replace a file that came up meanwhile. Its directory is synced by the first commit, with the log.
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        os.close(fd)
        aside.unlink()
    return True


@functools.cache
def template() -> bytes:
    """The image of a new run's file: the newest schema, no rows, in WAL mode."""
    with contextlib.closing(apsw.Connection(":memory:")) as connection:
        connection.pragma("page_size", schema.PAGE_SIZE)
        connection.pragma("application_id", schema.APPLICATION_ID)
        migrate(connection, schema.MIGRATIONS, "the template")
        image = bytearray(connection.serialize("main"))
    image[18] = image[19] = 2  # the header's write and read format: write-ahead log
    return bytes(image)
