-- Statements of StartSaga. No fence: a start is not the leader's write, every replica may make it at any time.

-- name: start
-- Many starts in one statement. A request id that is known already, from before or from the same batch, is passed
-- over; which saga it belongs to is read afterwards. Whoever leads is told, once a statement. A saga that is to begin
-- later sleeps until then.
WITH inserted AS (
    INSERT INTO baton.saga (
        id, shard, request_id, request_hash, definition, version, state, input, labels, start_at, next_run_at
    )
    SELECT n.id, %(shard)b, n.request_id, n.request_hash, n.definition, n.version, 'PENDING',
        n.input::jsonb, n.labels::jsonb, to_timestamp(nullif(n.start_at_s, 0)),
        CASE WHEN to_timestamp(n.start_at_s) > clock_timestamp() THEN to_timestamp(n.start_at_s) END
    FROM unnest(
        %(id)b::uuid[], %(request_id)b::text[], %(request_hash)b::bytea[], %(definition)b::text[],
        %(version)b::integer[], %(input)b::text[], %(labels)b::text[], %(start_at_s)b::float8[]
    ) AS n (id, request_id, request_hash, definition, version, input, labels, start_at_s)
    ON CONFLICT (request_id) DO NOTHING
    RETURNING id, created_at
), told AS MATERIALIZED (
    SELECT pg_notify('baton_work', %(work)b)
)
SELECT id, created_at, (SELECT count(*) FROM told) FROM inserted;

-- name: started
-- What is found may have been committed a moment ago and still be on its way to a synchronous standby: a message of
-- no content makes this a write, whose commit waits until the standby has all that came before it.
WITH message AS MATERIALIZED (SELECT pg_logical_emit_message(true, 'baton', ''))
SELECT request_id, id, request_hash, created_at
FROM baton.saga, message
WHERE request_id = ANY (%(request_ids)b::text[]);
