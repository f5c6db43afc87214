-- What any replica stores for the leader to heed, and what it reads of sagas to answer for it. Nothing here is fenced:
-- a signal changes nothing until the leader has written what it led to.

-- name: post
-- Repeated after a lost connection, it finds the signal by its key. Without a row in `posted`, and without one of this
-- key, another answer for the same step waits to be heeded.
WITH saga AS (
    SELECT id, shard FROM baton.saga WHERE id = %(saga)s
), posted AS (
    INSERT INTO baton.signal (key, saga_id, shard, verb, step, result, code, message, ordered)
    SELECT %(key)s, id, shard, %(verb)s, %(step)s, %(result)s::text::jsonb, %(code)s, %(message)s, %(ordered)s::text::jsonb
    FROM saga
    ON CONFLICT DO NOTHING
    RETURNING id
), told AS MATERIALIZED (
    SELECT pg_notify('baton_work', saga.shard || ':signal') FROM saga, posted
)
SELECT (SELECT count(*) FROM saga), coalesce((SELECT id FROM posted), (SELECT id FROM baton.signal WHERE key = %(key)s)),
    (SELECT count(*) FROM told);

-- name: fate
SELECT heard_at IS NOT NULL, coalesce(refusal, '') FROM baton.signal WHERE id = %(id)s;

-- name: saga
SELECT id, definition, version, input, labels, created_at, cancel_reason, state, sequence, start_at,
    parent, parent_step
FROM baton.saga
WHERE id = %(id)s;

-- name: events
SELECT saga_id, sequence, position, status, attempt, result, error_code, error_message, retry_at, ordered, epoch
FROM baton.step_log
WHERE saga_id = %(id)s AND sequence <= %(last)s
ORDER BY sequence;

-- name: asked
-- A page of the sagas that ask for an approval, the longest first, behind the place (after_at, after), with their steps
-- that wait. The index saga_asked holds nothing else, and each definition gives no more than a page of it; what is read
-- beside are the rows of the sagas of the page. The next page begins behind the last saga. The expression is that of the
-- index.
SELECT page.id, page.definition, page.version, page.asked_at, l.position, l.at, nullif(l.retry_at, 'infinity')
FROM (
    SELECT s.id, s.definition, s.version, s.asked_at
    FROM unnest(%(definitions)s::text[]) AS d (name),
    LATERAL (
        SELECT id, definition, version, asked_at
        FROM baton.saga
        WHERE definition || '' = d.name AND asked_at IS NOT NULL
            AND (asked_at, id) > (%(after_at)s::timestamptz, %(after)s::uuid)
        ORDER BY asked_at, id
        LIMIT %(page)s::bigint
    ) AS s
    ORDER BY s.asked_at, s.id
    LIMIT %(page)s::bigint
) AS page
LEFT JOIN LATERAL (
    SELECT DISTINCT ON (position) position, status, at, retry_at
    FROM baton.step_log
    WHERE saga_id = page.id AND position > 0
    ORDER BY position, sequence DESC
) AS l ON l.status = 'waiting'
ORDER BY page.asked_at, page.id, l.at, l.position;

-- name: parked
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(finished_at)), 0)::float8
FROM baton.saga
WHERE state = 'FAILED' AND (%(definition)s = '' OR definition = %(definition)s);
