"""`Events`: ask the event history of a storage folder in SQL, beside a running cluster or long after it.

>>> events = Events("storage")  # doctest: +SKIP
>>> events.sql("SELECT event_type, count(*) AS n FROM events GROUP BY 1 ORDER BY n DESC LIMIT 2").rows  # doctest: +SKIP
[('token.created', 120), ('task.dispatched', 118)]
"""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from wonder_ray.analytics.reports import OF_ONE_RUN, REPORTS
from wonder_ray.errors import QueryError, RunNotFoundError, StorageError
from wonder_ray.ids import RUN_ID_PATTERN

if TYPE_CHECKING:
    from collections.abc import Callable

    import duckdb
    import pyarrow as pa

    from wonder_ray.analytics.database import Database, Room
    from wonder_ray.analytics.result import Result
    from wonder_ray.analytics.statements import Params

    Check: TypeAlias = Callable[[duckdb.DuckDBPyConnection, str], str]

SECONDS_MAX: Final = 60.0
TRIES: Final = 10
"""How often a query is made whose files have been replaced by others under it."""
LATEST: Final = "latest"


class Events:
    """The event history of one storage folder, for SQL; DuckDB reads its Parquet files where they lie.

    What can be asked are the views `events` and `trace_events` (the two datasets, with the columns that the README lists and
    `date`), `runs`, `tokens` and `attempts` (see `wonder_ray/analytics/sql/views`). They exist, and are empty, where there are
    no files yet. Queries only read, and only these views. Rows that the event service has acknowledged appear once they
    are in files: within `flush_age_s` (30 seconds), at a run's end, or after a flush.

    Args:
        storage: The storage folder; it may not exist yet.
        before: Called before each query: a client flushes, so that what has happened is there.
        workspace: The only workspace whose rows there are; None is all of them.
        room: What a query may take beside time; by default all that the machine has.

    Attributes:
        storage: The storage folder.

    Example:
        >>> Events("storage").sql("WHERE event_type = 'task.failed' ORDER BY timestamp").df()  # doctest: +SKIP
    """

    def __init__(
        self,
        storage: Path | str,
        *,
        before: Callable[[], None] = lambda: None,
        workspace: str | None = None,
        room: Room | None = None,
    ) -> None:
        self.storage = Path(storage)
        self._before = before
        self._workspace = workspace
        self._room = room
        self._opening = threading.Lock()
        self._database: Database | None = None

    def sql(self, query: str, params: Params = None, *, seconds_max: float = SECONDS_MAX) -> Result:
        """What a query gives.

        Args:
            query: One SELECT (or DESCRIBE, SUMMARIZE, SHOW TABLES); or only its conditions, beginning with WHERE, over `events`.
            params: For `?` a sequence, for `$name` a mapping.
            seconds_max: A query that takes longer is stopped.

        Raises:
            QueryError: It is no query, it would do anything but read the views, or it takes too long.
            StorageError: A file of the dataset cannot be read.
            WonderError: DuckDB is not installed.

        Example:
            >>> client.events.sql("SELECT * FROM attempts WHERE queue_ms > ?", [1000]).rows  # doctest: +SKIP
        """
        from wonder_ray.analytics.statements import bound, checked, completed

        self._before()
        return self._ask(completed(query), bound(params), seconds_max, check=checked)

    def report(
        self,
        name: str,
        *,
        run: str | None = None,
        workflow: str | None = None,
        since: dt.datetime | None = None,
        seconds_max: float = SECONDS_MAX,
    ) -> Result:
        """A ready report: `cost`, `queue`, `retries`, `fanout` or `critical-path`.

        Args:
            name: Which.
            run: Only this run: its id, a unique beginning of it, or `latest`. `critical-path` is of the latest by default.
            workflow: Only runs of the workflow of this name.
            since: Only runs that were started then or later.
            seconds_max: As for `sql`.

        Raises:
            QueryError: There is no such report, or it takes too long.
            RunNotFoundError: `run` is no single run in these files.

        Example:
            >>> client.events.report("cost", workflow="crawl").df()  # doctest: +SKIP
        """
        from wonder_ray.analytics.database import sql_text

        if name not in REPORTS:
            raise QueryError(f"there is no report {name!r}; there are {', '.join(REPORTS)}")
        self._before()
        if name in OF_ONE_RUN and run is None:
            run = self._latest(workflow, since)
        params = {
            "run": None if run is None else self._resolve(run),
            "first_run": None if since is None else _first_run_id(since),
            "workflow": workflow,
        }
        return self._ask(sql_text(f"reports/{name}.sql"), params, seconds_max)

    def close(self) -> None:
        """Free what queries have kept; the next query opens it again."""
        with self._opening:
            if self._database is not None:
                self._database.close()
                self._database = None

    # --- inside --------------------------------------------------------------------------------------------------

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        from wonder_ray.analytics.database import Database

        with self._opening:
            if self._database is None:
                self._database = Database(self.storage, self._workspace, self._room)
            return self._database.cursor()

    def _ask(self, query: str, params: Any, seconds_max: float, check: Check = lambda _, query: query) -> Result:
        """Run a query; again, when a file was moved, replaced or removed under it (compaction and retention do that)."""
        import duckdb

        from wonder_ray.analytics.result import Result

        for left in reversed(range(TRIES)):
            try:
                with self._cursor() as cursor:
                    return Result(_fetched(cursor, check(cursor, query), params, seconds_max, self._room))
            except duckdb.InterruptException:
                raise QueryError(f"the query took longer than {seconds_max:g} s, and was stopped: {query}") from None
            except duckdb.Error as error:
                if not self._is_about_a_file(error):
                    raise QueryError(f"{error}\nin: {query}") from None
                if not left:
                    msg = f"the events in {self.storage} cannot be read: {error}; see `wonder doctor`"
                    raise StorageError(msg) from error
        raise AssertionError("unreachable")  # the last try returns or raises

    def _is_about_a_file(self, error: duckdb.Error) -> bool:
        """Whether it is no fault of the query: a file is missing, is none, or is another one than a moment ago."""
        import duckdb

        names_one = isinstance(error, duckdb.InvalidInputException) and str(self.storage.absolute()) in str(error)
        return names_one or isinstance(error, duckdb.IOException) or type(error) is duckdb.Error  # the last: garbled content

    def _resolve(self, ref: str) -> str:
        if ref == LATEST:
            latest = self._latest(None, None)
            if latest is None:
                raise RunNotFoundError(f"there are no runs in the events of {self.storage}")
            return latest
        if RUN_ID_PATTERN.fullmatch(ref):
            return ref
        query = "SELECT DISTINCT workflow_run_id FROM events WHERE starts_with(workflow_run_id, $ref) LIMIT 2"
        found = self._ask(query, {"ref": ref}, SECONDS_MAX).rows
        if len(found) == 1:
            return str(found[0][0])
        several = "several runs begin" if found else "no run begins"
        raise RunNotFoundError(f"{several} with {ref!r} in the events of {self.storage}; see `wonder runs`")

    def _latest(self, workflow: str | None, since: dt.datetime | None) -> str | None:
        query = """
            SELECT max(workflow_run_id) FROM events
            WHERE ($workflow IS NULL OR workflow_name = $workflow) AND ($first_run IS NULL OR workflow_run_id >= $first_run)"""
        params = {"workflow": workflow, "first_run": None if since is None else _first_run_id(since)}
        found = self._ask(query, params, SECONDS_MAX).rows[0][0]
        return None if found is None else str(found)


def _first_run_id(since: dt.datetime) -> str:
    """What the ids of runs that were started at a time begin with: all later ones are greater."""
    moment = since if since.tzinfo else since.replace(tzinfo=dt.UTC)
    return f"run_{round(moment.timestamp() * 1000):012x}"


def _fetched(cursor: duckdb.DuckDBPyConnection, statement: str, params: Any, seconds_max: float, room: Room | None) -> pa.Table:
    timer = threading.Timer(seconds_max, cursor.interrupt)
    timer.daemon = True
    timer.start()
    try:
        # As a subquery it can only read: DuckDB takes statements that change something at the top level only.
        limit = "" if room is None else f" LIMIT {room.rows + 1}"
        relation = cursor.sql(f"SELECT * FROM ({statement}\n){limit}", params=params)  # noqa: S608 - as the comment says
        return _bounded(relation.to_arrow_table(), room)
    finally:
        timer.cancel()


def _bounded(table: pa.Table, room: Room | None) -> pa.Table:
    """The table; a `QueryError` where it is too large to be handed out."""
    if room is not None and table.num_rows > room.rows:
        raise QueryError(f"the result has more than {room.rows:,} rows: narrow it, or give it a LIMIT")
    if room is not None and table.nbytes > room.result_bytes:
        raise QueryError(f"the result has {table.nbytes:,} bytes, more than {room.result_bytes:,}: take fewer rows or columns")
    return table
