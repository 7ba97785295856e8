"""What the demo asks of a finished run: plain SQL over the Parquet files of the event history, with nothing else running.

>>> len(QUESTIONS)
5
"""

from __future__ import annotations

import glob
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from wonder_ray.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

QUESTIONS: Final = MappingProxyType(
    {
        "the winner": """
            SELECT metadata->>'$.output.report.winner' AS winner,
                   CAST(metadata->>'$.output.report.mean' AS DOUBLE) AS mean_accuracy,
                   CAST(metadata->>'$.output.report.held_out_accuracy' AS DOUBLE) AS held_out_accuracy,
                   metadata->>'$.output.report.confused[0]' AS most_often_confused
            FROM events WHERE event_type = 'workflow.completed' AND workflow_run_id = $run""",
        "the five best configurations": """
            SELECT score->>'$.name' AS configuration,
                   CAST(score->>'$.mean' AS DOUBLE) AS mean, CAST(score->>'$.std' AS DOUBLE) AS std
            FROM (SELECT unnest(CAST(metadata->'$.output.report.configurations' AS JSON[])) AS score
                  FROM events WHERE event_type = 'workflow.completed' AND workflow_run_id = $run)
            ORDER BY mean DESC LIMIT 5""",
        "where the time went": """
            SELECT node_id AS node, count(*) AS attempts, round(sum(duration_ms) / 1000, 2) AS seconds,
                   round(median(duration_ms), 1) AS median_ms, round(max(duration_ms), 1) AS slowest_ms
            FROM events WHERE event_type IN ('task.completed', 'task.failed') AND workflow_run_id = $run
            GROUP BY node ORDER BY seconds DESC LIMIT 5""",
        "attempts that were lost, and made again": """
            SELECT lost.node_id AS node, lost.metadata->>'$.error.type' AS error,
                   count(*) AS attempts_lost, ended.event_type AS in_the_end
            FROM events lost
            LEFT JOIN events ended ON ended.token_id = lost.token_id AND ended.workflow_run_id = lost.workflow_run_id
                                  AND ended.event_type IN ('token.completed', 'token.failed', 'token.cancelled')
            WHERE lost.event_type = 'task.retry_scheduled' AND lost.workflow_run_id = $run
            GROUP BY ALL ORDER BY attempts_lost DESC""",
        "failures that were tolerated": """
            SELECT metadata->>'$.error.node_id' AS node, metadata->>'$.error.type' AS error, message
            FROM events WHERE event_type = 'group.failure_tolerated' AND workflow_run_id = $run
            ORDER BY sequence_number""",
    }
)
"""Heading -> SQL over a view `events`; `$run` is the run's id."""


class Answer(NamedTuple):
    """The rows that a question gave."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


class History:
    """The event history in a storage folder, open for SQL. No Ray and no service of wonder-ray is needed.

    Raises:
        StorageError: There are no Parquet files in the folder (yet).

    Example:
        >>> with History(storage / "events") as history:  # doctest: +SKIP
        ...     history.ask(QUESTIONS["where the time went"], run_id).rows
    """

    def __init__(self, events: Path) -> None:
        import duckdb

        if next(events.rglob("*.parquet"), None) is None:
            raise StorageError(f"{events} holds no Parquet files yet: the event service writes them within seconds of a run")
        self._connection = duckdb.connect()
        files = self._connection.read_parquet(glob.escape(str(events)) + "/**/*.parquet", hive_partitioning=True)
        files.create_view("events")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def ask(self, sql: str, run_id: str) -> Answer:
        """What a question gives for one run."""
        found = self._connection.execute(sql, {"run": run_id})
        return Answer([column[0] for column in found.description], found.fetchall())
