-- Where attempts have waited and where they have worked, by workflow and node: from ready to dispatched (queue), around the
-- action (run), and the rest of the time that an attempt was open: on its way, behind others of its batch or in Ray's queue.
SELECT workflow_name, node_id,
       count(*) AS attempts,
       quantile_cont(queue_ms, 0.5) AS queue_ms_median,
       quantile_cont(queue_ms, 0.95) AS queue_ms_p95,
       quantile_cont(run_ms, 0.5) AS run_ms_median,
       quantile_cont(run_ms, 0.95) AS run_ms_p95,
       sum(queue_ms) AS queue_ms_total,
       coalesce(sum(run_ms), 0) AS run_ms_total,
       coalesce(sum(open_ms - run_ms), 0) AS overhead_ms_total,
       sum(queue_ms) / nullif(sum(queue_ms) + coalesce(sum(open_ms), 0), 0) AS queue_share
FROM attempts
WHERE ($run IS NULL OR workflow_run_id = $run)
  AND ($first_run IS NULL OR workflow_run_id >= $first_run)
  AND ($workflow IS NULL OR workflow_name = $workflow)
GROUP BY workflow_name, node_id
ORDER BY queue_ms_total + run_ms_total DESC, workflow_name, node_id
