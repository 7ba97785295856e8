-- tokens: one row per token of a run, that is per position of execution.
--   parent_id       the token whose transition made it; of a token behind a join, the token that opened the join's group
--   fanout_id, branch   the innermost fan-out that it is in, and which of its branches, from 0
--   status          completed, failed, timed_out, cancelled, joined (it has arrived at a join that fired), waiting (at a
--                   join), live
WITH
ends AS (
    SELECT workflow_run_id, token_id, sequence_number, turn, timestamp, split_part(event_type, '.', 2) AS status
    FROM events
    WHERE event_type IN ('token.completed', 'token.failed', 'token.timed_out', 'token.cancelled')
    UNION ALL
    SELECT workflow_run_id, token->>'$.id', sequence_number, turn, timestamp,
           CASE WHEN token->>'$.status' = 'completed' AND token->>'$.join_id' IS NOT NULL THEN 'joined'
                ELSE token->>'$.status'
           END
    FROM _restored
    WHERE token->>'$.status' IN ('completed', 'failed', 'timed_out', 'cancelled')
),
waits AS (
    SELECT workflow_run_id, token_id, sequence_number, metadata->>'$.join_id' AS join_id
    FROM events
    WHERE event_type = 'token.waiting'
    UNION ALL
    SELECT workflow_run_id, token->>'$.id', sequence_number, token->>'$.join_id'
    FROM _restored
    WHERE token->>'$.status' = 'waiting_for_siblings'
),
firings AS (
    SELECT workflow_run_id, sequence_number, turn, timestamp, metadata->>'$.join_id' AS join_id,
           CAST(metadata->'$.token_ids' AS VARCHAR[]) AS token_ids
    FROM events
    WHERE event_type IN ('fan_in.completed', 'fan_in.absorbed')
),
taken AS ( -- a firing takes the tokens that it names; where it names none, all that wait (a group's join fires once)
    SELECT workflow_run_id, unnest(token_ids) AS token_id, sequence_number, turn, timestamp
    FROM firings
    UNION ALL
    SELECT workflow_run_id, waits.token_id, firings.sequence_number, firings.turn, firings.timestamp
    FROM firings JOIN waits USING (workflow_run_id, join_id)
    WHERE firings.token_ids IS NULL AND waits.sequence_number < firings.sequence_number
)
SELECT births.workflow_run_id, births.token_id, births.node_id, births.parent_id, births.transition_id, births.group_id,
       births.fanout_id, births.branch,
       CASE WHEN ends.status IS NOT NULL THEN ends.status
            WHEN taken.token_id IS NOT NULL THEN 'joined'
            WHEN waits.token_id IS NOT NULL THEN 'waiting'
            ELSE 'live'
       END AS status,
       births.timestamp AS created_at,
       coalesce(ends.timestamp, taken.timestamp) AS ended_at,
       births.sequence_number AS created_sequence,
       coalesce(ends.sequence_number, taken.sequence_number) AS ended_sequence,
       births.turn AS created_turn,
       coalesce(ends.turn, taken.turn) AS ended_turn
FROM _births AS births
LEFT JOIN ends USING (workflow_run_id, token_id)
LEFT JOIN taken USING (workflow_run_id, token_id)
LEFT JOIN waits USING (workflow_run_id, token_id)
