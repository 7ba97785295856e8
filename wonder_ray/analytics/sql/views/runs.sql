-- runs: one row per run. What a run has cost is the sum over its attempts; its child runs have rows of their own.
SELECT workflow_run_id, workspace_id, project_id, root_run_id, parent_run_id, workflow_name, workflow_version,
       CASE arg_max(event_type, sequence_number) FILTER (event_type IN (
                'workflow.started', 'workflow.waiting', 'workflow.running', 'workflow.paused', 'workflow.resumed',
                'workflow.ending', 'compensation.started',
                'workflow.completed', 'workflow.failed', 'workflow.timed_out', 'workflow.cancelled'))
           WHEN 'workflow.completed' THEN 'completed'
           WHEN 'workflow.failed' THEN 'failed'
           WHEN 'workflow.timed_out' THEN 'timed_out'
           WHEN 'workflow.cancelled' THEN 'cancelled'
           WHEN 'workflow.ending' THEN 'cancelling'
           WHEN 'compensation.started' THEN 'compensating'
           WHEN 'workflow.paused' THEN 'paused'
           WHEN 'workflow.waiting' THEN 'waiting'
           ELSE 'running'
       END AS status,
       min(timestamp) AS started_at,
       max(timestamp) FILTER (event_type IN ('workflow.completed', 'workflow.failed', 'workflow.timed_out', 'workflow.cancelled'))
           AS ended_at,
       (epoch_us(ended_at) - epoch_us(started_at)) / 1000 AS duration_ms,
       max(sequence_number) AS events,
       count(*) FILTER (event_type = 'task.dispatched') AS attempts,
       count(*) FILTER (event_type = 'task.failed') AS failed_attempts,
       count(*) FILTER (event_type = 'run.resumed') AS resumptions,
       sum(tokens)::BIGINT AS tokens,
       sum(cost_usd) AS cost_usd,
       max(metadata->>'$.error.type') FILTER (event_type IN ('workflow.failed', 'workflow.timed_out')) AS error_type,
       max(message) FILTER (event_type IN ('workflow.failed', 'workflow.timed_out')) AS message,
       max(metadata->>'$.key') FILTER (event_type = 'workflow.started') AS key,
       CAST(max(metadata->'$.labels') FILTER (event_type = 'workflow.started') AS VARCHAR) AS labels
FROM events
GROUP BY workflow_run_id, workspace_id, project_id, root_run_id, parent_run_id, workflow_name, workflow_version
