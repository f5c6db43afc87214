-- Statements of StartSaga. No fence: a start is not the leader's write, every replica may make it at any time.

-- name: start
-- Many starts in one statement. A request id that is known already, from before or from the same batch, is passed
-- over; which saga it belongs to is read afterwards. Whoever leads is told, once a statement.
WITH inserted AS (
    INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input, labels)
    SELECT n.id, %(shard)b, n.request_id, n.request_hash, n.definition, n.version, 'PENDING',
        n.input::jsonb, n.labels::jsonb
    FROM unnest(
        %(id)b::uuid[], %(request_id)b::text[], %(request_hash)b::bytea[], %(definition)b::text[],
        %(version)b::integer[], %(input)b::text[], %(labels)b::text[]
    ) AS n (id, request_id, request_hash, definition, version, input, labels)
    ON CONFLICT (request_id) DO NOTHING
    RETURNING id, created_at
), told AS MATERIALIZED (
    SELECT pg_notify('baton_work', %(work)b)
)
SELECT id, created_at, (SELECT count(*) FROM told) FROM inserted;

-- name: started
SELECT request_id, id, request_hash, created_at
FROM baton.saga
WHERE request_id = ANY (%(request_ids)b::text[]);
