"""Reading the lines of one file, beside its writer if there is one: by a condition that people wrote, or all of them.

>>> read_lines("node1-2026-11-23-1.sqlite", "level = 'error'", (), newest_first=True, limit=10, ...)  # doctest: +SKIP
"""

from __future__ import annotations

import time
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import apsw
import msgspec

from wonder_ray.errors import QueryError, StorageError
from wonder_ray.logs.files import COLUMNS, INSERT, SCHEMA, has_table, refuse_wal_bug
from wonder_ray.logs.record import LogLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Params: TypeAlias = "Sequence[Any] | dict[str, Any]"
_ROWS_AT_ONCE = 50_000
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM logs WHERE (\n"  # noqa: S608 - our own names
_READ_BYTES_MAX = 16 * 1024 * 1024  # of one value in a query: no `randomblob(1e9)`
_STEPS_BETWEEN_CHECKS = 50_000


def check_condition(condition: str, params: Params) -> None:
    """Compile the condition against an empty table: its errors show here, whether or not there are files.

    Raises:
        QueryError: It is no condition over `COLUMNS`, wants other parameters, or would do anything but read.
    """
    with closing(apsw.Connection(":memory:")) as connection:
        connection.execute(SCHEMA)
        _guard(connection, time.monotonic() + 60)
        try:
            _query(connection, condition, params, "")
        except (apsw.Error, TypeError, ValueError, OverflowError) as error:
            raise _refusal(condition, error) from None


def read_all(path: str) -> Iterator[list[tuple[Any, ...]]]:
    """Every row of a complete file, some at a time, in order of time.

    Raises:
        StorageError: The file cannot be read.
    """
    refuse_wal_bug(apsw.sqlite_lib_version())
    order = " ORDER BY timestamp, id"
    try:
        with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            if not has_table(connection):
                return
            rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM logs{order}")  # noqa: S608 - our own names
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                yield some
    except apsw.Error as error:
        raise StorageError(f"log file {path} cannot be read ({error})") from None


def select_lines(
    lines: Sequence[LogLine],
    condition: str,
    params: Params,
    *,
    newest_first: bool,
    limit: int | None,
    bound_us: int | None,
    seconds_max: float,
) -> list[LogLine]:
    """As `read_lines`, of lines that lie in no file of ours: they are put into a table of their own for it."""
    with closing(apsw.Connection(":memory:")) as connection:
        connection.execute(SCHEMA)
        with connection:
            connection.executemany(INSERT, [msgspec.structs.astuple(line) for line in lines])
        return _select(connection, condition, params, _tail(newest_first, limit, bound_us), seconds_max)


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
    tail = _tail(newest_first, limit, bound_us)
    refuse_wal_bug(apsw.sqlite_lib_version())
    try:
        with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.set_busy_timeout(2_000)
            if not has_table(connection):
                return []  # its writer has only just made it
            return _select(connection, condition, params, tail, seconds_max)
    except apsw.Error as error:
        raise StorageError(f"log file {path} cannot be read ({error}); it was left out") from None


def _tail(newest_first: bool, limit: int | None, bound_us: int | None) -> str:  # noqa: FBT001 - private, two callers
    direction, compare = ("DESC", ">=") if newest_first else ("ASC", "<=")
    bound = "" if bound_us is None else f" AND timestamp {compare} {int(bound_us)}"
    count = -1 if limit is None else int(limit)
    return f"{bound} ORDER BY timestamp {direction}, id {direction} LIMIT {count}"


def _select(connection: apsw.Connection, condition: str, params: Params, tail: str, seconds_max: float) -> list[LogLine]:
    _guard(connection, time.monotonic() + seconds_max)
    try:
        return [LogLine(**dict(zip(COLUMNS, row, strict=True))) for row in _query(connection, condition, params, tail)]
    except (apsw.SQLError, apsw.InterruptError, apsw.TooBigError, ValueError) as error:
        raise _refusal(condition, error) from None


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
