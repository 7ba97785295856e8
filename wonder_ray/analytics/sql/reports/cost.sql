-- What runs have cost, by workspace, workflow and node: every attempt counts, also those that failed.
SELECT workspace_id, workflow_name, node_id,
       count(DISTINCT workflow_run_id) AS runs,
       count(*) AS attempts,
       coalesce(sum(tokens), 0)::BIGINT AS tokens,
       coalesce(sum(cost_usd), 0) AS cost_usd,
       coalesce(sum(cost_usd) FILTER (outcome <> 'completed'), 0) AS wasted_usd,
       coalesce(sum(run_ms), 0) AS run_ms
FROM attempts
WHERE ($run IS NULL OR workflow_run_id = $run)
  AND ($first_run IS NULL OR workflow_run_id >= $first_run)
  AND ($workflow IS NULL OR workflow_name = $workflow)
GROUP BY workspace_id, workflow_name, node_id
ORDER BY cost_usd DESC, run_ms DESC, workspace_id, workflow_name, node_id
