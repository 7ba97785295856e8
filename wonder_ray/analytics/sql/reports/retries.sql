-- Attempts that came to nothing, by workflow, node and cause, and what they have cost. `retried` of them were followed by
-- another attempt of the same token; `recovered` of them belong to tokens whose last attempt completed.
WITH chosen AS (
    SELECT *,
           attempt < max(attempt) OVER token AS retried,
           arg_max(outcome, attempt) OVER token = 'completed' AS recovered,
           coalesce(run_ms, open_ms, 0) AS spent_ms
    FROM attempts
    WHERE ($run IS NULL OR workflow_run_id = $run)
      AND ($first_run IS NULL OR workflow_run_id >= $first_run)
      AND ($workflow IS NULL OR workflow_name = $workflow)
    WINDOW token AS (PARTITION BY workflow_run_id, token_id)
)
SELECT workflow_name, node_id, outcome, error_type,
       count(*) AS attempts,
       count(*) FILTER (retried) AS retried,
       count(*) FILTER (recovered) AS recovered,
       coalesce(sum(spent_ms), 0) AS wasted_ms,
       coalesce(sum(tokens), 0)::BIGINT AS wasted_tokens,
       coalesce(sum(cost_usd), 0) AS wasted_usd,
       coalesce(sum(spent_ms), 0) / nullif((SELECT sum(spent_ms) FROM chosen), 0) AS share_of_all_ms
FROM chosen
WHERE outcome NOT IN ('completed', 'open')
GROUP BY workflow_name, node_id, outcome, error_type
ORDER BY wasted_ms DESC, workflow_name, node_id, outcome, error_type
