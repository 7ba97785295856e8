-- Fan-outs, one row each: how well their branches ran beside each other. The work of a fan-out is that of all attempts in its
-- branches, those of fan-outs inside it included.
--   wall_ms      from the split to its join; without a join, to the end of the last attempt
--   work_ms      time spent in actions; slowest_ms is the branch with the most of it, median_ms the one in the middle
--   speedup      work_ms / wall_ms: how many branches worked at the same time, on average
--   efficiency   speedup / width, where the width is the number of branches or, if less, max_concurrency
--   tail_ms      what was left of wall_ms when nine of ten branches with attempts had ended
WITH RECURSIVE
starts AS (
    SELECT workflow_run_id, workflow_name, token_id AS parent_id, node_id, sequence_number, timestamp AS started_at,
           metadata->>'$.fanout_id' AS fanout_id,
           metadata->>'$.group_id' AS group_id,
           CAST(metadata->>'$.count' AS BIGINT) AS branches,
           CAST(metadata->>'$.max_concurrency' AS BIGINT) AS max_concurrency
    FROM events
    WHERE event_type = 'fan_out.started'
      AND ($run IS NULL OR workflow_run_id = $run)
      AND ($first_run IS NULL OR workflow_run_id >= $first_run)
      AND ($workflow IS NULL OR workflow_name = $workflow)
),
joins AS (
    SELECT workflow_run_id, metadata->>'$.join_id' AS group_id, min(timestamp) AS joined_at
    FROM events
    WHERE event_type = 'fan_in.completed'
      AND ($run IS NULL OR workflow_run_id = $run)
      AND ($first_run IS NULL OR workflow_run_id >= $first_run)
    GROUP BY ALL
),
places AS (
    SELECT workflow_run_id, token_id, fanout_id, branch
    FROM _births
    WHERE fanout_id IS NOT NULL
      AND ($run IS NULL OR workflow_run_id = $run)
      AND ($first_run IS NULL OR workflow_run_id >= $first_run)
),
inside AS ( -- (fan-out, branch) -> each fan-out and branch that it lies in, itself first
    SELECT DISTINCT workflow_run_id, fanout_id AS inner_id, branch AS inner_branch, fanout_id AS outer_id, branch AS outer_branch
    FROM places
    UNION ALL
    SELECT inside.workflow_run_id, inside.inner_id, inside.inner_branch, places.fanout_id, places.branch
    FROM inside
    JOIN starts ON starts.workflow_run_id = inside.workflow_run_id AND starts.fanout_id = inside.outer_id
    JOIN places ON places.workflow_run_id = starts.workflow_run_id AND places.token_id = starts.parent_id
),
work AS (
    SELECT places.workflow_run_id, places.fanout_id AS inner_id, places.branch AS inner_branch,
           sum(coalesce(run_ms, open_ms, 0)) AS work_ms, max(ended_at) AS ended_at, count(*) AS attempts
    FROM attempts JOIN places USING (workflow_run_id, token_id)
    WHERE ($run IS NULL OR workflow_run_id = $run)
      AND ($first_run IS NULL OR workflow_run_id >= $first_run)
    GROUP BY ALL
),
branches AS (
    SELECT inside.workflow_run_id, inside.outer_id AS fanout_id, inside.outer_branch AS branch,
           sum(work_ms) AS work_ms, max(ended_at) AS ended_at, sum(attempts) AS attempts
    FROM inside JOIN work USING (workflow_run_id, inner_id, inner_branch)
    GROUP BY ALL
),
totals AS (
    SELECT workflow_run_id, fanout_id, sum(work_ms) AS work_ms, max(work_ms) AS slowest_ms, median(work_ms) AS median_ms,
           sum(attempts)::BIGINT AS attempts, max(ended_at) AS ended_at, quantile_disc(ended_at, 0.9) AS nearly_at
    FROM branches
    GROUP BY ALL
)
SELECT workflow_run_id, workflow_name, node_id, branches, max_concurrency, started_at,
       coalesce(joined_at, ended_at) AS ended_at,
       coalesce(attempts, 0) AS attempts,
       (epoch_us(coalesce(joined_at, totals.ended_at)) - epoch_us(started_at)) / 1000 AS wall_ms,
       coalesce(work_ms, 0) AS work_ms, slowest_ms, median_ms,
       work_ms / nullif(wall_ms, 0) AS speedup,
       speedup / least(branches, coalesce(max_concurrency, branches)) AS efficiency,
       (epoch_us(coalesce(joined_at, totals.ended_at)) - epoch_us(nearly_at)) / 1000 AS tail_ms
FROM starts
LEFT JOIN joins USING (workflow_run_id, group_id)
LEFT JOIN totals USING (workflow_run_id, fanout_id)
ORDER BY workflow_run_id, sequence_number
