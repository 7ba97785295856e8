-- How every token came to be, one row each. The tokens of a fan-out have no event of their own: their ids are derived from
-- its id, as the coordinator derives them.
SELECT workflow_run_id, token_id, sequence_number, turn, timestamp, node_id,
       metadata->>'$.parent_id' AS parent_id,
       metadata->>'$.transition_id' AS transition_id,
       metadata->>'$.group_id' AS group_id,
       metadata->>'$.fanout_id' AS fanout_id,
       CAST(metadata->>'$.index' AS BIGINT) AS branch
FROM events
WHERE event_type = 'token.created'
UNION ALL
SELECT workflow_run_id, fan_out_token_id(fanout_id, branch), sequence_number, turn, timestamp, node_id,
       parent_id, transition_id, group_id, fanout_id, branch
FROM (
    SELECT workflow_run_id, sequence_number, turn, timestamp, node_id,
           token_id AS parent_id,
           metadata->>'$.transition_id' AS transition_id,
           metadata->>'$.group_id' AS group_id,
           metadata->>'$.fanout_id' AS fanout_id,
           unnest(range(CAST(metadata->>'$.count' AS BIGINT))) AS branch
    FROM events
    WHERE event_type = 'fan_out.started'
)
UNION ALL
SELECT workflow_run_id, token->>'$.id', sequence_number, turn, timestamp, token->>'$.node_id',
       token->>'$.parent_id', token->>'$.transition_id', token->>'$.group_id', token->>'$.fanout_id',
       CAST(token->>'$.index' AS BIGINT)
FROM _restored
