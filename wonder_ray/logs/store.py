"""The rotating files of the log: `<folder>/<instance>-<YYYY-MM-DD>-<n>.sqlite`, one table, written by one process each.

Files are in WAL mode, so that readers work beside the writer, with `synchronous=NORMAL`: a killed process loses nothing
that was committed and no crash can corrupt a file, but the last moments before a power loss may be missing. That is the
right price for logs: FULL would cost a disk sync per batch, for lines that no recovery ever reads.

Two processes never share a file: the instance is in the name, and its lock (`<instance>.lock`, flock) is held for as long
as a store is open. A second process that was given the same instance becomes `<instance>.2`, and so on. The lock is a file
of its own because closing any descriptor of an SQLite file would drop the locks that SQLite holds on it in this process.

Archive and retention need no more than `list_files`: every file but an instance's newest is complete and never opened
for writing again, and its name tells the UTC day on which it was written.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import apsw
import msgspec

from wonder_ray.errors import QueryError, StorageError
from wonder_ray.ids import check_name
from wonder_ray.logs.record import LogLine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Params: TypeAlias = "Sequence[Any] | dict[str, Any]"
FILE_BYTES_MAX = 64 * 1024 * 1024
FORMAT_VERSION = 1
_APPLICATION_ID = 0x574C4F47  # "WLOG"
_SLOTS_MAX = 64
_FILE_NAME = re.compile(r"(?P<instance>.+)-(?P<date>\d{4}-\d{2}-\d{2})-(?P<n>\d{1,9})\.sqlite")
_WAL_BUG_FIRST, _WAL_BUG_LAST = (3, 7, 0), (3, 51, 2)

COLUMNS: tuple[str, ...] = LogLine.__struct_fields__

_SCHEMA = """
CREATE TABLE logs (
  id           INTEGER PRIMARY KEY,
  timestamp    INTEGER NOT NULL,
  level        TEXT NOT NULL,
  service      TEXT NOT NULL,
  event_type   TEXT NOT NULL,
  message      TEXT NOT NULL,
  trace_id     TEXT,
  request_id   TEXT,
  workspace_id TEXT,
  project_id   TEXT,
  node_id      TEXT,
  token_id     TEXT,
  attempt      INTEGER,
  host         TEXT,
  pid          INTEGER,
  error_stack  TEXT,
  metadata     TEXT CHECK (metadata IS NULL OR json_valid(metadata)) -- one bad text would fail every json_extract over it
) STRICT;
CREATE INDEX logs_timestamp     ON logs (timestamp);                               -- the last hour; order and pages
CREATE INDEX logs_service_level ON logs (service, level, timestamp);               -- errors of one service since ...
CREATE INDEX logs_level         ON logs (level, timestamp);                        -- errors of all: LIKE '%rpc%' needs them
CREATE INDEX logs_event_type    ON logs (event_type, timestamp);                   -- slow queries, timeouts
CREATE INDEX logs_trace_id      ON logs (trace_id, timestamp) WHERE trace_id IS NOT NULL; -- all of a run
"""
_INSERT = f"INSERT INTO logs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - our own names
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM logs WHERE (\n"  # noqa: S608 - our own names
_READ_BYTES_MAX = 16 * 1024 * 1024  # of one value in a query: no `randomblob(1e9)`
_STEPS_BETWEEN_CHECKS = 50_000


class LogFile(msgspec.Struct, frozen=True, order=True):
    """A file of the log, as its name describes it; sorts by day, then instance, then number."""

    date: str
    instance: str
    n: int
    path: str


def list_files(folder: Path) -> list[LogFile]:
    """All log files in the folder, oldest day first; empty when there is no such folder."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return []
    matches = [match for name in names if (match := _FILE_NAME.fullmatch(name))]
    return sorted(LogFile(match["date"], match["instance"], int(match["n"]), str(folder / match[0])) for match in matches)


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
        has_table = _has_table(connection)
        if has_table and ((application_id, version) != (_APPLICATION_ID, FORMAT_VERSION) or not self._is_sound()):
            raise StorageError(f"{self.path} is not a sound log file of this release; it is left alone")
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "normal")
        connection.pragma("trusted_schema", 0)
        if not has_table:
            with connection:
                connection.execute(_SCHEMA)
                connection.pragma("application_id", _APPLICATION_ID)
                connection.pragma("user_version", FORMAT_VERSION)

    def _is_sound(self) -> bool:
        return bool(self._connection.execute("PRAGMA quick_check(1)").get == "ok")

    def insert(self, lines: Sequence[LogLine]) -> int:
        """Commit the lines; those that the table cannot hold are left out and counted."""
        rows = [msgspec.structs.astuple(line) for line in lines]
        try:
            with self._connection:
                self._connection.executemany(_INSERT, rows)
        except (apsw.ConstraintError, apsw.TooBigError, TypeError, ValueError, OverflowError):
            with self._connection:
                return sum(not self._insert_one(row) for row in rows)
        return 0

    def _insert_one(self, row: tuple[Any, ...]) -> bool:
        try:
            self._connection.execute(_INSERT, row)
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


def utc_date(now_us: int) -> str:
    """The UTC day of a time, as file names have it.

    >>> utc_date(1_700_000_000_000_000)
    '2023-11-14'
    """
    return datetime.fromtimestamp(now_us // 1_000_000, tz=UTC).strftime("%Y-%m-%d")


def refuse_wal_bug(version: str) -> None:
    """Raise a `StorageError` for an SQLite whose write-ahead log can lose committed pages with two connections.

    >>> refuse_wal_bug("3.51.2")
    Traceback (most recent call last):
    wonder_ray.errors.StorageError: SQLite 3.51.2 (3.7.0 to 3.51.2) can corrupt files in WAL mode: install apsw >= 3.51.3
    """
    if _WAL_BUG_FIRST <= tuple(map(int, version.split("."))) <= _WAL_BUG_LAST:
        raise StorageError(f"SQLite {version} (3.7.0 to 3.51.2) can corrupt files in WAL mode: install apsw >= 3.51.3")


# ------------------------------------------------------------------------------------------------------------ reading


def check_condition(condition: str, params: Params) -> None:
    """Compile the condition against an empty table: its errors show here, whether or not there are files.

    Raises:
        QueryError: It is no condition over `COLUMNS`, wants other parameters, or would do anything but read.
    """
    with closing(apsw.Connection(":memory:")) as connection:
        connection.execute(_SCHEMA)
        _guard(connection, time.monotonic() + 60)
        try:
            _query(connection, condition, params, "")
        except (apsw.Error, TypeError, ValueError, OverflowError) as error:
            raise _refusal(condition, error) from None


def read_lines(
    path: str,
    condition: str,
    params: Params,
    *,
    newest_first: bool,
    limit: int | None,
    bound_us: int | None,
    seconds_max: float,
) -> list[LogLine]:
    """The lines of one file that meet the condition, in order of time, beside its writer if there is one.

    `bound_us`: leave out lines newer (or, with `newest_first`, older) than this: others have filled the limit already.

    Raises:
        QueryError: The condition cannot be evaluated on some line, or takes too long.
        StorageError: The file cannot be read.
    """
    direction, compare = ("DESC", ">=") if newest_first else ("ASC", "<=")
    bound = "" if bound_us is None else f" AND timestamp {compare} {int(bound_us)}"
    count = -1 if limit is None else int(limit)
    tail = f"{bound} ORDER BY timestamp {direction}, id {direction} LIMIT {count}"
    refuse_wal_bug(apsw.sqlite_lib_version())
    try:
        with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.set_busy_timeout(2_000)
            if not _has_table(connection):
                return []  # its writer has only just made it
            _guard(connection, time.monotonic() + seconds_max)
            return [LogLine(**dict(zip(COLUMNS, row, strict=True))) for row in _query(connection, condition, params, tail)]
    except (apsw.SQLError, apsw.InterruptError, apsw.TooBigError, ValueError) as error:
        raise _refusal(condition, error) from None
    except apsw.Error as error:
        raise StorageError(f"log file {path} cannot be read ({error}); it was left out") from None


def _query(connection: apsw.Connection, condition: str, params: Params, tail: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    statements = 0

    def only_one(_cursor: object, statement: str, _bindings: object) -> bool:
        nonlocal statements
        statements += 1
        if statements > 1:
            raise ValueError(f"a second statement begins at {statement[:80]!r}")
        return True

    cursor.exec_trace = only_one
    return list(cursor.execute(f"{_SELECT}{condition}\n){tail}", params))


def _refusal(condition: str, error: Exception) -> QueryError:
    what = "it takes too long" if isinstance(error, apsw.InterruptError) else str(error)
    columns = ", ".join(COLUMNS)
    return QueryError(f"condition {condition[:200]!r} on logs: {what} (what follows WHERE, over the columns {columns})")


_READS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_FUNCTION})


def _guard(connection: apsw.Connection, deadline: float) -> None:
    """Nothing but SELECT, and not for ever: conditions come from people."""

    def authorize(action: int, _first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
        allowed = action in _READS and not (action == apsw.SQLITE_FUNCTION and second == "load_extension")
        return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY

    connection.authorizer = authorize
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, _READ_BYTES_MAX)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_CHECKS)


def _has_table(connection: apsw.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'logs'").get)
