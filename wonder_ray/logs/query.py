"""Reading the log, with or without a live service: straight from its files, beside whoever writes them. Needs no Ray.

>>> import tempfile
>>> LogReader(tempfile.mkdtemp()).search(service="executor", level="error")
[]
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wonder_ray.errors import StorageError
from wonder_ray.logs.files import list_files, name_of
from wonder_ray.logs.lines import check_condition, read_lines, select_lines
from wonder_ray.logs.record import LEVELS

if TYPE_CHECKING:
    from wonder_ray.logs.files import LogFile
    from wonder_ray.logs.lines import Params
    from wonder_ray.logs.record import Level, LogLine, Service

SECONDS_MAX = 60.0
ARCHIVED = ".parquet"
_WHERE = re.compile(r"\s*where\b", re.IGNORECASE)


class LogReader:
    """Searches all log files of a storage as if they were one table `logs`.

    Args:
        storage: The storage folder; its logs are in `<storage>/logs`.
        seconds_max: A query that takes longer ends with a `QueryError`.

    Attributes:
        skipped: Path -> reason, for the files that the latest query could not read (torn, removed meanwhile).

    Example:
        >>> import tempfile
        >>> reader = LogReader(tempfile.mkdtemp())
        >>> reader.sql("WHERE service = 'executor' AND level = 'error' AND timestamp > ?", (0,))
        []
    """

    def __init__(self, storage: Path | str, *, seconds_max: float = SECONDS_MAX) -> None:
        self._folder = Path(storage) / "logs"
        self._seconds_max = seconds_max
        self.skipped: dict[str, str] = {}

    def search(  # noqa: PLR0913 - each argument is an optional filter
        self,
        *,
        service: Service | None = None,
        level: Level | None = None,
        event_type: str | None = None,
        trace_id: str | None = None,
        node_id: str | None = None,
        token_id: str | None = None,
        request_id: str | None = None,
        workspace_id: str | None = None,
        project_id: str | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
        text: str | None = None,
        limit: int | None = 1_000,
        newest_first: bool = True,
        archive: bool = False,
    ) -> list[LogLine]:
        """The lines that meet all the filters given.

        Args:
            service: Exactly this service.
            level: This level or worse.
            event_type: Exactly, or a pattern when it holds a `%` (any characters).
            trace_id: A run id.
            node_id: A node; ids of nodes are unique within one workflow, so give a `trace_id` too.
            token_id: A token.
            request_id: An HTTP request.
            workspace_id: A workspace.
            project_id: A project.
            since_us: At or after this time (microseconds, UTC).
            until_us: Before this time.
            text: Contained in the message or the error stack (ASCII letters in any case).
            limit: At most this many, None for all.
            newest_first: The newest lines, newest first; else the oldest, oldest first.
            archive: Also those that have gone into the archive.
        """
        equals = {
            "service": service,
            "trace_id": trace_id,
            "node_id": node_id,
            "token_id": token_id,
            "request_id": request_id,
            "workspace_id": workspace_id,
            "project_id": project_id,
        }
        terms: list[tuple[str, tuple[object, ...]]] = [(f"{name} = ?", (v,)) for name, v in equals.items() if v is not None]
        terms += _level_term(level) + _event_type_term(event_type)
        if since_us is not None:
            terms.append(("timestamp >= ?", (since_us,)))
        if until_us is not None:
            terms.append(("timestamp < ?", (until_us,)))
        if text:
            pattern = f"%{_escaped(text)}%"
            terms.append((r"(message LIKE ? ESCAPE '\' OR error_stack LIKE ? ESCAPE '\')", (pattern, pattern)))
        condition = " AND ".join(term for term, _ in terms) or "TRUE"
        params = tuple(value for _, some in terms for value in some)
        narrow = Narrow(since_us, until_us, {name: value for name, value in equals.items() if value is not None})
        return self.sql(condition, params, limit=limit, newest_first=newest_first, archive=narrow if archive else None)

    def sql(
        self,
        where: str,
        params: Params = (),
        *,
        limit: int | None = None,
        newest_first: bool = False,
        archive: Narrow | None = None,
    ) -> list[LogLine]:
        """The lines that meet an SQL condition: what would follow `WHERE` (the word itself may stand there too).

        The columns are the fields of `LogLine`; order and limit are arguments, since there are many files. Parameters
        are `?` with a sequence, or `:name` with a dict. `archive` includes the archive, as far as it says (`Narrow()`: all of
        it).

        Raises:
            QueryError: It is no condition, it would do anything but read, or it takes too long.

        Example:
            >>> import tempfile
            >>> slow = "event_type = 'db_query_slow' AND json_extract(metadata, '$.duration_ms') > :ms"
            >>> LogReader(tempfile.mkdtemp()).sql(slow, {"ms": 1000})
            []
        """
        condition = _WHERE.sub("", where, count=1) if _WHERE.match(where) else where
        check_condition(condition, params)
        deadline = time.monotonic() + self._seconds_max
        files = list_files(self._folder)
        if archive is not None:
            listed = {name_of(file) for file in files}  # else one that moves at this moment would count twice
            files = sorted([*files, *(file for file in self._archived() if name_of(file) not in listed)])
        self.skipped = {}
        found: list[LogLine] = []
        for file in reversed(files) if newest_first else files:
            if limit is not None and limit <= 0:
                break
            full = limit is not None and len(found) >= limit
            bound_us = found[-1].timestamp if full else None
            asked = _Asked(condition, params, newest_first, limit, bound_us, deadline, archive)
            found += self._read(file, asked)
            found.sort(key=_by_time, reverse=newest_first)  # stable, and nearly sorted: files follow each other in time
            del found[limit if limit is not None else len(found) :]
        return found

    def _archived(self) -> list[LogFile]:
        from wonder_ray.logs.archive import list_archived  # and pyarrow, only for who asks for it

        return list_archived(self._folder.parent)

    def _read(self, file: LogFile, asked: _Asked) -> list[LogLine]:
        try:
            if file.path.endswith(ARCHIVED):
                return self._read_archived(file.path, asked)
            return read_lines(file.path, asked.condition, asked.params, **asked.limits())
        except StorageError as error:
            moved = self._archive_of(file) if asked.archive is not None else None
            if moved is not None:
                return self._read(moved, asked)
            self.skipped[file.path] = str(error)
            return []

    def _read_archived(self, path: str, asked: _Asked) -> list[LogLine]:
        from wonder_ray.logs.archive import read_archived

        narrow = asked.archive or Narrow()
        since_us, until_us = narrow.since_us, narrow.until_us
        if asked.bound_us is not None and asked.newest_first:
            since_us = max(since_us or 0, asked.bound_us)
        elif asked.bound_us is not None:
            until_us = min(until_us or asked.bound_us, asked.bound_us)
        lines = read_archived(path, between=(since_us, until_us), equals=narrow.equals)
        return select_lines(lines, asked.condition, asked.params, **asked.limits()) if lines else []

    def _archive_of(self, file: LogFile) -> LogFile | None:
        """What has become of a file that went into the archive since it was listed."""
        found = [each for each in self._archived() if name_of(each) == name_of(file)]
        return found[0] if found and found[0].path != file.path else None


class Narrow(NamedTuple):
    """What of the archive a query can be about: lines in a span of time, with these values. It only saves work."""

    since_us: int | None = None
    until_us: int | None = None
    equals: dict[str, Any] = {}  # noqa: RUF012 - never changed


class _Asked(NamedTuple):
    condition: str
    params: Params
    newest_first: bool
    limit: int | None
    bound_us: int | None
    deadline: float
    archive: Narrow | None

    def limits(self) -> dict[str, Any]:
        """As the functions take them that read one file."""
        return {
            "newest_first": self.newest_first,
            "limit": self.limit,
            "bound_us": self.bound_us,
            "seconds_max": max(0.0, self.deadline - time.monotonic()),
        }


def _by_time(line: LogLine) -> int:
    return line.timestamp


def _level_term(level: Level | None) -> list[tuple[str, tuple[object, ...]]]:
    if level is None or level == LEVELS[0]:
        return []
    wanted = LEVELS[LEVELS.index(level) :]
    # Most lines are info or worse: going through them in order of time until the limit is reached is the better plan
    # there, and the plus keeps SQLite from taking the index on levels, which would sort them all.
    column = "+level" if level == "info" else "level"
    return [(f"{column} IN ({', '.join('?' * len(wanted))})", wanted)]


def _event_type_term(event_type: str | None) -> list[tuple[str, tuple[object, ...]]]:
    if event_type is None:
        return []
    if "%" not in event_type:
        return [("event_type = ?", (event_type,))]
    return [(r"event_type LIKE ? ESCAPE '\'", ("%".join(map(_escaped, event_type.split("%"))),))]


def _escaped(text: str) -> str:
    """The text as a LIKE pattern that matches just it."""
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
