"""The rotating files of the log: `<folder>/<instance>-<YYYY-MM-DD>-<n>.sqlite`, one table, written by one process each.

Files are in WAL mode, so that readers work beside the writer, with `synchronous=NORMAL`: a killed process loses nothing
that was committed and no crash can corrupt a file, but the last moments before a power loss may be missing. That is the
right price for logs: FULL would cost a disk sync per batch, for lines that no recovery ever reads.

Two processes never share a file: the instance is in the name, and its lock (`<instance>.lock`, flock) is held for as long
as a store is open. A second process that was given the same instance becomes `<instance>.2`, and so on. The lock is a file
of its own because closing any descriptor of an SQLite file would drop the locks that SQLite holds on it in this process.

The archive needs no more than `files.list_files`: every file but an instance's newest is complete and never opened for
writing again, and its name tells the UTC day on which it was written.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from wonder_ray.errors import StorageError
from wonder_ray.ids import check_name
from wonder_ray.logs.files import INSERT, SCHEMA, has_table, list_files, refuse_wal_bug, utc_date

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wonder_ray.logs.record import LogLine

FILE_BYTES_MAX = 64 * 1024 * 1024
FORMAT_VERSION = 1
_APPLICATION_ID = 0x574C4F47  # "WLOG"
_SLOTS_MAX = 64


class LogStore:
    """The writing end: appends batches, rotating by UTC day and by size. Not thread-safe; everything opens lazily.

    Args:
        folder: Made when it is not there.
        instance: A name; part of the file names.
        file_bytes_max: A file that has reached this size gets no further batch.
        vfs: Name of a registered SQLite VFS (fault injection), None for the default one.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from wonder_ray.logs.files import list_files
        >>> from wonder_ray.logs.record import LogLine
        >>> folder = Path(tempfile.mkdtemp())
        >>> store = LogStore(folder, "node1")
        >>> store.append([LogLine(timestamp=0, level="info", service="http", event_type="started")], now_us=0)
        0
        >>> store.close()
        >>> [Path(file.path).name for file in list_files(folder)]
        ['node1-1970-01-01-1.sqlite']
    """

    def __init__(self, folder: Path, instance: str, *, file_bytes_max: int = FILE_BYTES_MAX, vfs: str | None = None) -> None:
        self._folder = folder
        self._asked_instance = check_name(instance, "log instance")
        self._file_bytes_max = file_bytes_max
        self._vfs = vfs
        self._lock_fd: int | None = None
        self._instance = instance
        self._file: _OpenFile | None = None
        self.files_opened = 0

    @property
    def path(self) -> str | None:
        """The file that is being written, None while there is none."""
        return self._file.path if self._file else None

    def append(self, lines: Sequence[LogLine], now_us: int) -> int:
        """Commit the lines, all or none; how many of them were refused because no table can hold them.

        Raises:
            apsw.Error, OSError, StorageError: The disk or the folder fails. Nothing was written; close the store, and
                append again when the trouble may be over.
        """
        file = self._current_file(utc_date(now_us))
        refused = file.insert(lines)
        if file.is_gone():
            raise StorageError(f"log file {file.path} was removed while it was written; its lines are lost, a new one is begun")
        return refused

    def close(self) -> None:
        """Finish the file and give the instance free; never raises. The store can be used again."""
        file, self._file = self._file, None
        if file:
            file.close()
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            os.close(fd)

    def _current_file(self, date: str) -> _OpenFile:
        file = self._file
        if file and (file.date != date or file.size() >= self._file_bytes_max):
            self._file = None
            file.close()
        if self._file is None:
            if self._lock_fd is None:
                self._claim_instance()
            self._file = self._open(date)
            self.files_opened += 1
        return self._file

    def _claim_instance(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for slot in range(1, _SLOTS_MAX + 1):
            instance = self._asked_instance if slot == 1 else f"{self._asked_instance}.{slot}"
            fd = os.open(self._folder / f"{instance}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
            else:
                self._lock_fd, self._instance = fd, instance
                return
        raise StorageError(
            f"{_SLOTS_MAX} processes write logs to {self._folder} as {self._asked_instance!r}: give them other names"
        )

    def _open(self, date: str) -> _OpenFile:
        """The day's newest file if it has room and is sound (so that a crash loop makes no crowd of files), else the next."""
        numbers = [file.n for file in list_files(self._folder) if (file.instance, file.date) == (self._instance, date)]
        last = max(numbers, default=0)
        if last:
            with suppress(apsw.Error, OSError, StorageError):
                file = _OpenFile(self._file_path(date, last), date, self._vfs)
                if file.size() < self._file_bytes_max:
                    return file
                file.close()
        return _OpenFile(self._file_path(date, last + 1), date, self._vfs)

    def _file_path(self, date: str, n: int) -> Path:
        return self._folder / f"{self._instance}-{date}-{n}.sqlite"


class _OpenFile:
    """One file, open for writing."""

    def __init__(self, path: Path, date: str, vfs: str | None) -> None:
        self.path = str(path)
        self._path = path
        self.date = date
        refuse_wal_bug(apsw.sqlite_lib_version())
        self._connection = apsw.Connection(self.path, vfs=vfs)
        try:
            self._prepare()
            found = path.stat()
        except BaseException:
            self._connection.close(True)  # noqa: FBT003 - apsw's own signature: close although something went wrong
            raise
        self._identity = (found.st_dev, found.st_ino)

    def _prepare(self) -> None:
        connection = self._connection
        connection.set_busy_timeout(2_000)
        application_id, version = connection.pragma("application_id"), connection.pragma("user_version")
        was_there = has_table(connection)
        if was_there and ((application_id, version) != (_APPLICATION_ID, FORMAT_VERSION) or not self._is_sound()):
            raise StorageError(f"{self.path} is not a sound log file of this release; it is left alone")
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "normal")
        connection.pragma("trusted_schema", 0)
        if not was_there:
            with connection:
                connection.execute(SCHEMA)
                connection.pragma("application_id", _APPLICATION_ID)
                connection.pragma("user_version", FORMAT_VERSION)

    def _is_sound(self) -> bool:
        return bool(self._connection.execute("PRAGMA quick_check(1)").get == "ok")

    def insert(self, lines: Sequence[LogLine]) -> int:
        """Commit the lines; those that the table cannot hold are left out and counted."""
        rows = [msgspec.structs.astuple(line) for line in lines]
        try:
            with self._connection:
                self._connection.executemany(INSERT, rows)
        except (apsw.ConstraintError, apsw.TooBigError, TypeError, ValueError, OverflowError):
            with self._connection:
                return sum(not self._insert_one(row) for row in rows)
        return 0

    def _insert_one(self, row: tuple[Any, ...]) -> bool:
        try:
            self._connection.execute(INSERT, row)
        except (apsw.ConstraintError, apsw.TooBigError, TypeError, ValueError, OverflowError):
            return False
        return True

    def size(self) -> int:
        """Bytes, with what is still in the write-ahead log."""
        return int(self._connection.pragma("page_count")) * int(self._connection.pragma("page_size"))

    def is_gone(self) -> bool:
        """Whether the name no longer leads to this file: writes to a removed file succeed, and are lost."""
        try:
            found = self._path.stat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._identity

    def close(self) -> None:
        """Close the file, as one without a write-ahead log where nobody is reading; never raises."""
        with suppress(apsw.Error):
            self._connection.set_busy_timeout(0)
            self._connection.pragma("journal_mode", "delete")
        with suppress(apsw.Error):
            self._connection.close(True)  # noqa: FBT003 - apsw's own signature: close whatever happens
