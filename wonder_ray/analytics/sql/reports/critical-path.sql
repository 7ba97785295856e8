-- The chain of tokens that a run's duration consists of, in order: each began when the one before it handed over, so that their
-- `total_ms` add up to the duration of the run. To shorten the run, shorten one of these.
--   queue_ms, run_ms   as in `attempts`, summed over all attempts of the token
--   other_ms           the rest: on its way, waiting for a retry, waiting at a join
-- It is found backwards from the run's last event. A token was caused by its parent, where that ended in the same turn; else
-- (behind a join) by the token that ended last before it in that turn, which is what made the join fire.
WITH RECURSIVE
births AS (
    SELECT * FROM _births
    WHERE ($run IS NULL OR workflow_run_id = $run) AND ($first_run IS NULL OR workflow_run_id >= $first_run)
),
ends AS (
    SELECT workflow_run_id, token_id, sequence_number, turn, timestamp
    FROM events
    WHERE event_type IN ('token.completed', 'token.failed', 'token.timed_out')
      AND ($run IS NULL OR workflow_run_id = $run) AND ($first_run IS NULL OR workflow_run_id >= $first_run)
),
finishes AS (
    SELECT workflow_run_id, max(sequence_number) AS sequence_number, max(turn) AS turn, max(timestamp) AS timestamp
    FROM events
    WHERE ($run IS NULL OR workflow_run_id = $run) AND ($first_run IS NULL OR workflow_run_id >= $first_run)
      AND ($workflow IS NULL OR workflow_name = $workflow)
    GROUP BY workflow_run_id
),
causes AS (
    SELECT births.workflow_run_id, births.token_id, births.node_id, births.sequence_number, births.timestamp AS began_at,
           CASE WHEN parents.turn = births.turn AND parents.sequence_number < births.sequence_number THEN births.parent_id
                ELSE coalesce(triggers.token_id, births.parent_id)
           END AS cause_id
    FROM births
    LEFT JOIN ends AS parents ON parents.workflow_run_id = births.workflow_run_id AND parents.token_id = births.parent_id
    ASOF LEFT JOIN ends AS triggers
        ON triggers.workflow_run_id = births.workflow_run_id AND triggers.turn = births.turn
       AND births.sequence_number >= triggers.sequence_number
),
last_steps AS (
    SELECT finishes.workflow_run_id, ends.token_id, finishes.timestamp AS handed_over_at
    FROM finishes
    ASOF JOIN ends
        ON ends.workflow_run_id = finishes.workflow_run_id AND finishes.sequence_number >= ends.sequence_number
),
path AS (
    SELECT causes.workflow_run_id, causes.token_id, causes.node_id, causes.sequence_number, causes.began_at, causes.cause_id,
           last_steps.handed_over_at
    FROM last_steps JOIN causes USING (workflow_run_id, token_id)
    UNION ALL
    SELECT causes.workflow_run_id, causes.token_id, causes.node_id, causes.sequence_number, causes.began_at, causes.cause_id,
           path.began_at
    FROM path JOIN causes ON causes.workflow_run_id = path.workflow_run_id AND causes.token_id = path.cause_id
),
work AS (
    SELECT workflow_run_id, token_id, count(*) AS attempts, sum(queue_ms) AS queue_ms, sum(coalesce(run_ms, open_ms, 0)) AS run_ms
    FROM attempts
    WHERE ($run IS NULL OR workflow_run_id = $run) AND ($first_run IS NULL OR workflow_run_id >= $first_run)
    GROUP BY ALL
)
SELECT workflow_run_id,
       row_number() OVER run AS step,
       node_id, token_id, began_at,
       coalesce(attempts, 0) AS attempts,
       (epoch_us(handed_over_at) - epoch_us(began_at)) / 1000 AS total_ms,
       coalesce(queue_ms, 0) AS queue_ms,
       coalesce(run_ms, 0) AS run_ms,
       total_ms - coalesce(queue_ms, 0) - coalesce(run_ms, 0) AS other_ms,
       total_ms / nullif(sum(total_ms) OVER (PARTITION BY workflow_run_id), 0) AS share
FROM path LEFT JOIN work USING (workflow_run_id, token_id)
WINDOW run AS (PARTITION BY workflow_run_id ORDER BY sequence_number)
ORDER BY workflow_run_id, step
