-- How hard it is for the saga log: read by every replica, whoever leads, to decide whether it takes new sagas.

-- name: backlog
-- Sagas that wait to be begun, counted no further than the limit needs, and how long the oldest has waited. Ids are
-- ordered by time, and the index saga_awake has them in that order. A saga that sleeps waits for nobody.
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)
FROM (
    SELECT greatest(created_at, start_at) AS since
    FROM baton.saga
    WHERE shard = %(shard)s AND state = 'PENDING' AND next_run_at IS NULL
    ORDER BY id
    LIMIT %(most)s
) AS waiting;

-- name: commit
-- A write without content: its commit takes as long as that of a saga, to the synchronous standby and back.
SELECT pg_logical_emit_message(true, 'baton', '');
