-- What the API reads, and the two things beside starts that it writes: definitions, and requests to cancel. Nothing
-- here is fenced: any replica may run it at any time.

-- name: saga
SELECT id, definition, version, state, current_step, sequence, input::text, result::text, error::text, labels::text,
    request_id, cancel_reason, nullif(next_run_at, 'infinity'), created_at, updated_at, finished_at
FROM baton.saga
WHERE id = %(id)s;

-- name: sagas
-- A page, newest first: ids are ordered by time. A filter that is not asked for is NULL, and gone when the plan is
-- made. The ids are bounded by the wanted times with room for clocks that differ, so that the primary key ends the
-- scan; the times themselves are compared as well. Large inputs and results stay where they are: they are for GetSaga.
SELECT id, definition, version, state, current_step, sequence,
    CASE WHEN pg_column_size(input) <= %(stored_bytes_max)s THEN input::text END,
    CASE WHEN pg_column_size(result) <= %(stored_bytes_max)s THEN result::text END,
    error::text, labels::text, request_id, cancel_reason, nullif(next_run_at, 'infinity'), created_at, updated_at, finished_at
FROM baton.saga
WHERE id < %(id_before)s AND id >= %(id_from)s
    AND (%(states)s::text[] IS NULL OR state = ANY (%(states)s::text[]))
    AND (%(definition)s::text IS NULL OR definition = %(definition)s::text)
    AND (%(created_after)s::timestamptz IS NULL OR created_at >= %(created_after)s::timestamptz)
    AND (%(created_before)s::timestamptz IS NULL OR created_at < %(created_before)s::timestamptz)
ORDER BY id DESC
LIMIT %(page)s;

-- name: examine
-- A window of sagas, newest first, and which of them fit: those for which the time did not suffice fit or not, nobody
-- knows (NULL). A JSON path is looked up in each input, so what bounds a search is the window, in rows and in time. The
-- path holds when the first thing that it finds is neither false nor null; errors inside of it (a text that is
-- compared with a number) are no match.
SELECT id, CASE WHEN clock_timestamp() < statement_timestamp() + make_interval(secs => %(budget_s)s) THEN coalesce(
        (%(states)s::text[] IS NULL OR state = ANY (%(states)s::text[]))
        AND (%(created_after)s::timestamptz IS NULL OR created_at >= %(created_after)s::timestamptz)
        AND (%(created_before)s::timestamptz IS NULL OR created_at < %(created_before)s::timestamptz)
        AND (%(path)s::text IS NULL OR jsonb_path_query_first(input, %(path)s::text::jsonpath, '{}', true)
            NOT IN ('false'::jsonb, 'null'::jsonb)),
        false
    ) END AS fits
FROM (
    SELECT id, state, created_at, input
    FROM baton.saga
    WHERE id < %(id_before)s AND id >= %(id_from)s
        AND (%(definition)s::text IS NULL OR definition = %(definition)s::text)
    ORDER BY id DESC
    LIMIT %(rows)s
) AS examined
ORDER BY id DESC;

-- name: examine_labelled
-- The same among the sagas that bear a label: its index is walked from the newest saga on, as far as the window goes.
-- No plan of this looks at sagas without the label.
SELECT id, CASE WHEN clock_timestamp() < statement_timestamp() + make_interval(secs => %(budget_s)s) THEN coalesce(
        (%(states)s::text[] IS NULL OR state = ANY (%(states)s::text[]))
        AND (%(created_after)s::timestamptz IS NULL OR created_at >= %(created_after)s::timestamptz)
        AND (%(created_before)s::timestamptz IS NULL OR created_at < %(created_before)s::timestamptz)
        AND (%(definition)s::text IS NULL OR definition = %(definition)s::text)
        AND (%(labels)s::text IS NULL OR labels @> %(labels)s::text::jsonb)
        AND (%(label_keys)s::text[] IS NULL OR labels ?& %(label_keys)s::text[])
        AND (%(path)s::text IS NULL OR jsonb_path_query_first(input, %(path)s::text::jsonpath, '{}', true)
            NOT IN ('false'::jsonb, 'null'::jsonb)),
        false
    ) END AS fits
FROM (
    SELECT saga_id
    FROM baton.saga_label
    WHERE key = %(key)s AND value = %(value)s
        AND saga_id < %(id_before)s AND saga_id >= %(id_from)s
    ORDER BY saga_id DESC
    LIMIT %(rows)s
) AS labelled
JOIN baton.saga ON id = saga_id
ORDER BY id DESC;

-- name: examine_named
-- The same among the sagas that bear a label of that name, whatever its value. The expression is that of its index.
SELECT id, CASE WHEN clock_timestamp() < statement_timestamp() + make_interval(secs => %(budget_s)s) THEN coalesce(
        (%(states)s::text[] IS NULL OR state = ANY (%(states)s::text[]))
        AND (%(created_after)s::timestamptz IS NULL OR created_at >= %(created_after)s::timestamptz)
        AND (%(created_before)s::timestamptz IS NULL OR created_at < %(created_before)s::timestamptz)
        AND (%(definition)s::text IS NULL OR definition = %(definition)s::text)
        AND (%(labels)s::text IS NULL OR labels @> %(labels)s::text::jsonb)
        AND (%(label_keys)s::text[] IS NULL OR labels ?& %(label_keys)s::text[])
        AND (%(path)s::text IS NULL OR jsonb_path_query_first(input, %(path)s::text::jsonpath, '{}', true)
            NOT IN ('false'::jsonb, 'null'::jsonb)),
        false
    ) END AS fits
FROM (
    SELECT saga_id
    FROM baton.saga_label
    WHERE key || '' = %(key)s
        AND saga_id < %(id_before)s AND saga_id >= %(id_from)s
    ORDER BY saga_id DESC
    LIMIT %(rows)s
) AS labelled
JOIN baton.saga ON id = saga_id
ORDER BY id DESC;

-- name: some_sagas
SELECT id, definition, version, state, current_step, sequence,
    CASE WHEN pg_column_size(input) <= %(stored_bytes_max)s THEN input::text END,
    CASE WHEN pg_column_size(result) <= %(stored_bytes_max)s THEN result::text END,
    error::text, labels::text, request_id, cancel_reason, nullif(next_run_at, 'infinity'), created_at, updated_at, finished_at
FROM baton.saga
WHERE id = ANY (%(ids)b::uuid[])
ORDER BY id DESC;

-- name: parked_sagas
-- The parked queue, the longest first; saga_parked holds nothing else.
SELECT id, definition, version, state, current_step, sequence,
    CASE WHEN pg_column_size(input) <= %(stored_bytes_max)s THEN input::text END,
    CASE WHEN pg_column_size(result) <= %(stored_bytes_max)s THEN result::text END,
    error::text, labels::text, request_id, cancel_reason, nullif(next_run_at, 'infinity'), created_at, updated_at, finished_at
FROM baton.saga
WHERE state = 'FAILED' AND (%(definition)s::text IS NULL OR definition = %(definition)s::text)
ORDER BY finished_at, id
LIMIT %(page)s;

-- name: history
-- The transitions up to the one that the saga's row has counted in; bounded in rows and in bytes, but at least one.
-- `turned` is where the saga first turned back, and `undone` says that it had completed by then: with them the state
-- after every row is known.
SELECT sequence, step, position, status, attempt, result, error_code, error_message, epoch, at, ordered, turned, undone
FROM (
    SELECT *, sum(octet_length(coalesce(result, ''))) OVER upwards AS bytes, row_number() OVER upwards AS number
    FROM (
        SELECT sequence, step, position, status, attempt, result::text AS result, error_code, error_message, epoch, at,
            ordered::text AS ordered
        FROM baton.step_log
        WHERE saga_id = %(id)s AND sequence > %(after)s AND sequence <= %(last)s
        ORDER BY sequence
        LIMIT %(rows)s
    ) AS page
    WINDOW upwards AS (ORDER BY sequence)
) AS measured,
LATERAL (
    SELECT min(t.sequence) AS turned, bool_or(t.status = 'undone') AS undone
    FROM baton.step_log AS t
    WHERE t.saga_id = %(id)s AND t.status IN ('failed', 'unknown', 'cancelled', 'expired', 'undone')
) AS turn
WHERE bytes <= %(bytes)s OR number = 1
ORDER BY sequence;

-- name: news
-- What has happened to many sagas behind the sequence up to which each is known; one snapshot, so that the state and
-- the rows agree. A terminal saga without news is named as well: whoever watches it must hear of the end.
SELECT s.id, s.state, s.sequence, l.sequence, l.step, l.position, l.status, l.attempt, l.result, l.error_code,
    l.error_message, l.epoch, l.at, l.ordered, turn.turned, turn.undone
FROM unnest(%(ids)b::uuid[], %(after)b::bigint[]) AS w (id, after)
JOIN baton.saga AS s ON s.id = w.id
LEFT JOIN LATERAL (
    SELECT sequence, step, position, status, attempt, result::text AS result, error_code, error_message, epoch, at,
        ordered::text AS ordered
    FROM baton.step_log
    WHERE saga_id = s.id AND sequence > w.after AND sequence <= s.sequence
    ORDER BY sequence
    LIMIT %(rows)s
) AS l ON true
LEFT JOIN LATERAL (
    SELECT min(sequence) AS turned, bool_or(status = 'undone') AS undone
    FROM baton.step_log
    WHERE saga_id = s.id AND status IN ('failed', 'unknown', 'cancelled', 'expired', 'undone')
) AS turn ON true
WHERE s.sequence > w.after OR s.state IN ('COMPLETED', 'COMPENSATED', 'FAILED')
ORDER BY s.id, l.sequence;

-- name: ended
SELECT id
FROM baton.saga
WHERE id = ANY (%(ids)b::uuid[]) AND state IN ('COMPLETED', 'COMPENSATED', 'FAILED');

-- name: started_as
SELECT id, created_at, request_hash FROM baton.saga WHERE request_id = %(request_id)s;

-- name: request_cancel
-- The first reason stays, so it may be asked again. A saga that ends at the same moment is seen as ended: the row's
-- lock is waited for. The leader reads the reason; nobody else acts on it.
WITH asked AS (
    UPDATE baton.saga
    SET cancel_reason = %(reason)s, updated_at = clock_timestamp()
    WHERE id = %(id)s AND state IN ('PENDING', 'RUNNING', 'COMPENSATING') AND cancel_reason IS NULL
    RETURNING shard, id
), told AS MATERIALIZED (
    SELECT pg_notify('baton_work', shard || ':cancel:' || id) FROM asked
)
SELECT count(*) FROM told;

-- name: fence
SELECT epoch, holder, raised_at FROM baton.fence WHERE shard = %(shard)s;

-- name: counts
-- Exact, without a look at any saga: what the tally has summed up, and what has changed since.
SELECT definition, state, sum(sagas)::bigint
FROM (
    SELECT definition, state, sagas FROM baton.tally
    UNION ALL
    SELECT definition, state, change FROM baton.tally_change
) AS counted
WHERE (%(definition)s::text IS NULL OR definition = %(definition)s::text)
    AND (%(states)s::text[] IS NULL OR state = ANY (%(states)s::text[]))
GROUP BY definition, state
HAVING sum(sagas) <> 0
ORDER BY definition, state;

-- name: oldest
-- By the ids, which are ordered by time: the first entries of an index for each state, however many sagas there are. What
-- waits because a person has paused it is left out; PAUSED has the oldest of those that were paused by themselves. A saga
-- that is to begin later is not old, and sleeps.
-- What a pause of its definition or participant holds wakes now and then, asks in vain, and sleeps again: it is awake for
-- a moment, with a row behind it that says PAUSED. So of those that are awake a few are looked at until one is not so.
SELECT live.state, coalesce(extract(epoch FROM least(awake.created_at, asleep.created_at)), 0)::float8
FROM (VALUES ('RUNNING'), ('COMPENSATING')) AS live (state)
LEFT JOIN LATERAL (
    SELECT first.created_at
    FROM (
        SELECT id, created_at, updated_at, sequence
        FROM baton.saga
        WHERE shard = %(shard)s AND state IN ('PENDING', 'RUNNING', 'COMPENSATING') AND state = live.state
            AND next_run_at IS NULL
        ORDER BY id
        LIMIT 200
    ) AS first
    WHERE first.updated_at < statement_timestamp() - interval '10 seconds'
        OR (
            SELECT l.error_code
            FROM baton.step_log AS l
            WHERE l.saga_id = first.id AND l.sequence <= first.sequence
                AND l.status NOT IN ('executing', 'querying', 'compensating')
            ORDER BY l.sequence DESC
            LIMIT 1
        ) IS DISTINCT FROM 'PAUSED'
    LIMIT 1
) AS awake ON true
LEFT JOIN LATERAL (
    SELECT created_at
    FROM baton.saga
    WHERE shard = %(shard)s AND state IN ('RUNNING', 'COMPENSATING') AND state = live.state
        AND next_run_at IS NOT NULL AND set_aside IS NULL
    ORDER BY id
    LIMIT 1
) AS asleep ON true
UNION ALL
SELECT 'PENDING', coalesce(extract(epoch FROM (
    SELECT created_at
    FROM baton.saga
    WHERE shard = %(shard)s AND state = 'PENDING' AND next_run_at IS NULL
    ORDER BY id
    LIMIT 1
)), 0)::float8
UNION ALL
SELECT 'FAILED', coalesce(extract(epoch FROM (
    SELECT created_at FROM baton.saga WHERE shard = %(shard)s AND state = 'FAILED' ORDER BY id LIMIT 1
)), 0)::float8
UNION ALL
SELECT 'PAUSED', coalesce(extract(epoch FROM (
    SELECT created_at
    FROM baton.saga
    WHERE shard = %(shard)s AND set_aside AND next_run_at = 'infinity'
    ORDER BY id
    LIMIT 1
)), 0)::float8;

-- name: ping
-- A server without the schema is of no use either.
SELECT 1 FROM baton.saga LIMIT 1;

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

-- name: definitions
SELECT name, version, content_hash, created_at
FROM baton.definition
ORDER BY name, version DESC
LIMIT %(limit)s;

-- name: insert_definition
-- Nothing comes back when the content is there already, or when another replica took the version at the same moment.
INSERT INTO baton.definition (name, version, content_hash, yaml, descriptor_set)
SELECT %(name)s, coalesce(max(version), 0) + 1, %(content_hash)s, %(yaml)s, %(descriptor_set)s
FROM baton.definition
WHERE name = %(name)s
ON CONFLICT DO NOTHING
RETURNING name, version, content_hash, yaml, descriptor_set, created_at;
