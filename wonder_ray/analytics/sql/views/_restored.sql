-- The tokens that a forked run begins with, one row each: those that the run it was forked from had at that point.
SELECT workflow_run_id, sequence_number, turn, timestamp, unnest(CAST(metadata->'$.token_records' AS JSON[])) AS token
FROM events
WHERE event_type = 'run.restored'
