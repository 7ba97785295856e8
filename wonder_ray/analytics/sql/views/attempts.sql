-- attempts: one row per dispatched attempt of a token's action.
--   ready_at       when the token could first have been sent: it came to be, its retry was due, or its task had been lost
--   queue_ms       from there to the dispatch
--   open_ms        from the dispatch to the end of the attempt, as the coordinator saw it
--   run_ms         what the executor measured around the action; null where no executor told (lost, timed out, cancelled)
--   outcome        completed, failed, timed_out, lost (its process or its coordinator was gone), cancelled, open
--   tokens, cost_usd   what the action reported with `wonder.report_usage`, also where it failed
WITH moves AS (
    SELECT workflow_run_id, workspace_id, project_id, root_run_id, workflow_name, workflow_version, node_id, token_id, path_id,
           sequence_number, timestamp, event_type, attempt, duration_ms, tokens, cost_usd, message,
           CASE WHEN event_type IN ('task.failed', 'token.requeued') THEN metadata->>'$.error.type' END AS error_type,
           CASE WHEN event_type IN ('task.failed', 'token.requeued') THEN metadata->>'$.error.kind' END AS error_kind
    FROM events
    WHERE event_type IN ('task.dispatched', 'task.completed', 'task.failed', 'token.requeued', 'token.cancelled')
    UNION ALL BY NAME
    SELECT workflow_run_id, token_id, sequence_number, timestamp, 'token.created' AS event_type FROM _births
),
sequences AS (
    SELECT *,
           last_value(CASE WHEN event_type IN ('token.created', 'token.requeued') THEN timestamp END IGNORE NULLS) OVER past
               AS ready_at,
           lead(event_type) OVER token AS end_type,
           lead(timestamp) OVER token AS ended_at,
           lead(duration_ms) OVER token AS run_ms,
           lead(tokens) OVER token AS used_tokens,
           lead(cost_usd) OVER token AS used_usd,
           lead(error_type) OVER token AS end_error_type,
           lead(error_kind) OVER token AS end_error_kind,
           lead(message) OVER token AS end_message
    FROM moves
    WINDOW token AS (PARTITION BY workflow_run_id, token_id ORDER BY sequence_number),
           past AS (token ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
SELECT workflow_run_id, workspace_id, project_id, root_run_id, workflow_name, workflow_version,
       node_id, token_id, path_id, attempt, sequence_number,
       CASE WHEN end_type IS NULL THEN 'open'
            WHEN end_type = 'task.completed' THEN 'completed'
            WHEN end_type = 'token.cancelled' THEN 'cancelled'
            WHEN end_type = 'token.requeued' OR end_error_kind IN ('lost', 'oom', 'node') THEN 'lost'
            WHEN end_error_kind = 'timeout' THEN 'timed_out'
            ELSE 'failed'
       END AS outcome,
       coalesce(ready_at, timestamp) AS ready_at,
       timestamp AS dispatched_at,
       ended_at,
       (epoch_us(dispatched_at) - epoch_us(ready_at)) / 1000 AS queue_ms,
       (epoch_us(ended_at) - epoch_us(dispatched_at)) / 1000 AS open_ms,
       run_ms,
       used_tokens AS tokens,
       used_usd AS cost_usd,
       end_error_type AS error_type,
       end_error_kind AS error_kind,
       end_message AS message
FROM sequences
WHERE event_type = 'task.dispatched'
