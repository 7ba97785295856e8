"""What the demo asks of a finished run: plain SQL over the Parquet files of the event history, with nothing else running.

>>> len(QUESTIONS)
5
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

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
