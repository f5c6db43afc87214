-- What the API reads, and the two things besides starts that it writes: definitions, and requests to cancel.

-- name: definition
SELECT name, version, content_hash, yaml, descriptor_set, created_at
FROM baton.definition
WHERE name = %(name)s AND (%(version)s::integer = 0 OR version = %(version)s::integer)
ORDER BY version DESC
LIMIT 1;

-- name: definition_by_content
SELECT name, version, content_hash, yaml, descriptor_set, created_at
FROM baton.definition
WHERE name = %(name)s AND content_hash = %(content_hash)s;

-- name: insert_definition
-- Nothing comes back when the content is there already, or when another replica took the version at the same moment.
INSERT INTO baton.definition (name, version, content_hash, yaml, descriptor_set)
SELECT %(name)s, coalesce(max(version), 0) + 1, %(content_hash)s, %(yaml)s, %(descriptor_set)s
FROM baton.definition
WHERE name = %(name)s
ON CONFLICT DO NOTHING
RETURNING name, version, content_hash, yaml, descriptor_set, created_at;

-- name: newest_definitions
SELECT DISTINCT ON (name) name, version, content_hash, '', ''::bytea, created_at
FROM baton.definition
ORDER BY name, version DESC;

-- name: saga
SELECT id, request_id, definition, version, state, current_step, sequence, input::text, result::text, error, labels,
    cancel_reason, next_run_at, created_at, updated_at, finished_at
FROM baton.saga
WHERE id = %(id)s;

-- name: history
SELECT saga_id, sequence, step, position, status, attempt, result::text, error_code, error_message, retry_at, epoch, at
FROM baton.step_log
WHERE saga_id = %(id)s
ORDER BY sequence
LIMIT %(most)s;

-- name: sagas
-- Newest first, by keyset. What is not asked for is null, and gone when the plan is made. Both bounds of the time are
-- given for the ids as well, with a day's slack for clocks, so that the primary key serves them. A query by label says
-- that there are labels, so that the index of labelled sagas serves it.
SELECT id, request_id, definition, version, state, current_step, sequence, input::text, result::text, error, labels,
    cancel_reason, next_run_at, created_at, updated_at, finished_at
FROM baton.saga
WHERE (%(states)s::text[] IS NULL OR state = ANY (%(states)s::text[]))
    AND (%(definition)s::text IS NULL OR definition = %(definition)s::text)
    AND (%(labels)s::jsonb IS NULL OR (labels @> %(labels)s::jsonb AND labels <> '{}'))
    AND (%(created_from)s::timestamptz IS NULL OR created_at >= %(created_from)s::timestamptz)
    AND (%(created_before)s::timestamptz IS NULL OR created_at < %(created_before)s::timestamptz)
    AND (%(id_from)s::uuid IS NULL OR id >= %(id_from)s::uuid)
    AND (%(id_before)s::uuid IS NULL OR id < %(id_before)s::uuid)
ORDER BY id DESC
LIMIT %(page)s;

-- name: counts
SELECT definition, state, count(*) FROM baton.saga GROUP BY definition, state;

-- name: fence
SELECT epoch, holder, raised_at FROM baton.fence WHERE shard = %(shard)s;

-- name: request_cancel
-- The first reason stays. A saga that ends at the same moment is seen as ended: the row's lock is waited for.
WITH asked AS (
    UPDATE baton.saga
    SET cancel_reason = %(reason)s, updated_at = clock_timestamp()
    WHERE id = %(id)s AND state IN ('PENDING', 'RUNNING', 'COMPENSATING') AND cancel_reason IS NULL
    RETURNING shard
), told AS MATERIALIZED (
    SELECT pg_notify('baton_work', shard || ':cancel') FROM asked
)
SELECT (SELECT count(*) FROM asked), (SELECT count(*) FROM told);

-- name: news
-- Of many watched sagas those that have moved, each with the rows behind what the watcher has seen, at most as many
-- as it has room for; a row of nulls stands for none. One snapshot: state and rows belong together.
SELECT w.place, s.state, s.sequence, e.*
FROM unnest(%(place)b::integer[], %(id)b::uuid[], %(after)b::bigint[], %(most)b::integer[]) AS w (place, id, after, most)
JOIN baton.saga AS s ON s.id = w.id AND s.sequence > w.after
LEFT JOIN LATERAL (
    SELECT saga_id, sequence, step, position, status, attempt, result::text, error_code, error_message, retry_at,
        epoch, at
    FROM baton.step_log
    WHERE saga_id = w.id AND sequence > w.after
    ORDER BY sequence
    LIMIT w.most
) AS e ON true
ORDER BY w.place, e.sequence;
