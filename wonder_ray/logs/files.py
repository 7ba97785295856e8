"""The files of the log: their names, what is in them, and which SQLite may open them.

>>> LogFile("2026-11-23", "node1", 2, "logs/node1-2026-11-23-2.sqlite") < LogFile("2026-11-24", "node1", 1, "")
True
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from wonder_ray.errors import StorageError
from wonder_ray.logs.record import LogLine

if TYPE_CHECKING:
    import apsw

_FILE_NAME = re.compile(r"(?P<instance>.+)-(?P<date>\d{4}-\d{2}-\d{2})-(?P<n>\d{1,9})(?P<suffix>\.[a-z-]+)")
_SUFFIX = ".sqlite"
_COMPANIONS = ("-wal", "-shm")
_WAL_BUG_FIRST, _WAL_BUG_LAST = (3, 7, 0), (3, 51, 2)

COLUMNS: tuple[str, ...] = LogLine.__struct_fields__

SCHEMA = """
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
INSERT = f"INSERT INTO logs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - our own names


class LogFile(msgspec.Struct, frozen=True, order=True):
    """A file of the log, as its name describes it; sorts by day, then instance, then number."""

    date: str
    instance: str
    n: int
    path: str


def list_files(folder: Path, suffix: str = _SUFFIX) -> list[LogFile]:
    """All log files in the folder, oldest day first; empty when there is no such folder."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return []
    matches = [match for name in names if (match := _FILE_NAME.fullmatch(name)) and match["suffix"] == suffix]
    return sorted(LogFile(match["date"], match["instance"], int(match["n"]), str(folder / match[0])) for match in matches)


def name_of(file: LogFile) -> str:
    """Its name without what tells its form: the same for a file and what becomes of it in the archive."""
    return f"{file.instance}-{file.date}-{file.n}"


def remove_file(file: LogFile) -> None:
    """Remove a complete file, with what SQLite may have left beside it."""
    for suffix in ("", *_COMPANIONS):  # the file first: without its write-ahead log it would have fewer lines
        Path(file.path + suffix).unlink(missing_ok=True)


def remove_orphans(folder: Path, before: str) -> None:
    """Remove what a crash in `remove_file` has left of files of days before a date."""
    for suffix in _COMPANIONS:
        for file in list_files(folder, _SUFFIX + suffix):
            if file.date < before and not Path(file.path.removesuffix(suffix)).exists():
                Path(file.path).unlink(missing_ok=True)


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


def has_table(connection: apsw.Connection) -> bool:
    """Whether an open file has its table: its writer may have only just made it."""
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'logs'").get)
