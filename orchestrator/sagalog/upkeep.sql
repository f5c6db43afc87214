-- Statements of the leader's upkeep, on a connection of their own: they must not hold up what drives sagas. Each takes
-- the fence row FOR SHARE under its epoch (R3), as every write of a leader does; the first column says whether it held.

-- name: fold_tally
-- Each change is deleted by one statement alone, and what that one deleted it adds: nothing is lost or counted twice,
-- whoever else folds. In the order of the key, so that two that overlap cannot wait for each other.
WITH fence AS MATERIALIZED (
    SELECT shard FROM baton.fence WHERE shard = %(shard)s AND epoch = %(epoch)s FOR SHARE
), folded AS (
    DELETE FROM baton.tally_change AS c
    USING fence
    WHERE c.shard = fence.shard
        AND c.ctid = ANY (ARRAY(
            SELECT ctid FROM baton.tally_change WHERE shard = %(shard)s LIMIT %(rows)s FOR UPDATE SKIP LOCKED
        ))
    RETURNING c.shard, c.definition, c.state, c.change
), added AS (
    INSERT INTO baton.tally AS t (shard, definition, state, sagas)
    SELECT shard, definition, state, sum(change)
    FROM folded
    GROUP BY shard, definition, state
    ORDER BY shard, definition, state
    ON CONFLICT (shard, definition, state) DO UPDATE SET sagas = t.sagas + excluded.sagas
)
SELECT (SELECT count(*) FROM fence), (SELECT count(*) FROM folded);

-- name: finished
-- A page of the sagas that ended well so long ago that they may go, behind one place and up to another, by their end; and
-- which of them may go as far as the log knows. The index saga_over holds nothing else. A child stays as long as its
-- parent, which may yet want it undone. No EXISTS: the planner may hash the ids of all sagas for it. The time is that of
-- the statement, so that the index scan ends at it.
SELECT id, sequence, pg_column_size(input) + coalesce(pg_column_size(result), 0), finished_at,
    (SELECT true FROM baton.saga AS p WHERE p.id = s.parent) IS NULL
FROM baton.saga AS s
WHERE shard = %(shard)s AND state IN ('COMPLETED', 'COMPENSATED') AND finished_at IS NOT NULL
    AND finished_at < statement_timestamp() - make_interval(secs => %(after_s)s)
    AND (finished_at, id) > (%(behind_at)s, %(behind)s)
    AND (finished_at, id) <= (%(until_at)s, %(until)s)
ORDER BY finished_at, id
LIMIT %(rows)s;

-- name: archived_sagas
SELECT id, definition, version, state, current_step, sequence, input::text, result::text, error::text, labels::text,
    request_id, cancel_reason, nullif(next_run_at, 'infinity'), created_at, updated_at, finished_at
FROM baton.saga
WHERE id = ANY (%(ids)b::uuid[])
ORDER BY id;

-- name: archived_history
-- The rows of many sagas in order, behind the last row that is known; bounded in rows and in bytes, but at least one.
SELECT saga_id, sequence, step, position, status, attempt, result, error_code, error_message, epoch, at, ordered
FROM (
    SELECT *, sum(octet_length(coalesce(result, ''))) OVER upwards AS bytes, row_number() OVER upwards AS number
    FROM (
        SELECT saga_id, sequence, step, position, status, attempt, result::text AS result, error_code, error_message,
            epoch, at, ordered::text AS ordered
        FROM baton.step_log
        WHERE saga_id = ANY (%(ids)b::uuid[]) AND (saga_id, sequence) > (%(saga)s, %(after)s)
        ORDER BY saga_id, sequence
        LIMIT %(rows)s
    ) AS page
    WINDOW upwards AS (ORDER BY saga_id, sequence)
) AS measured
WHERE bytes <= %(bytes)s OR number = 1
ORDER BY saga_id, sequence;

-- name: remove
-- Only what is as it was when it was read, and so in the archive: its sequence says that, its state that nobody needs
-- it. A saga that failed stays until a person has resolved it.
WITH fence AS MATERIALIZED (
    SELECT shard FROM baton.fence WHERE shard = %(shard)s AND epoch = %(epoch)s FOR SHARE
), gone AS (
    DELETE FROM baton.saga AS s
    USING fence, unnest(%(ids)b::uuid[], %(sequences)b::bigint[]) AS w (id, sequence)
    WHERE s.id = w.id AND s.shard = fence.shard AND s.sequence = w.sequence
        AND s.state IN ('COMPLETED', 'COMPENSATED')
        AND s.finished_at < clock_timestamp() - make_interval(secs => %(after_s)s)
    RETURNING s.id
), unlogged AS (
    DELETE FROM baton.step_log AS l USING gone WHERE l.saga_id = gone.id
), unsignalled AS (
    DELETE FROM baton.signal AS l USING gone WHERE l.saga_id = gone.id
)
SELECT (SELECT count(*) FROM fence), (SELECT array_agg(id) FROM gone);

-- name: raise_watermark
-- The second stride makes sure that nothing has come in below it since the first. An id is time and chance: the first
-- 48 bits are milliseconds since 1970, and it is of version 7. Nothing is started with an id of more than a margin ago.
WITH fence AS MATERIALIZED (
    SELECT shard FROM baton.fence WHERE shard = %(shard)s AND epoch = %(epoch)s FOR SHARE
), lowest AS MATERIALIZED (
    SELECT least(
        (SELECT id FROM baton.saga WHERE shard = %(shard)s ORDER BY id LIMIT 1),
        (
            lpad(
                to_hex((extract(epoch FROM clock_timestamp() - make_interval(secs => %(margin_s)s)) * 1000)::bigint),
                12, '0'
            ) || '70008000000000000000'
        )::uuid
    ) AS id
), raised AS (
    INSERT INTO baton.watermark AS w (shard, before_id, next_id, next_at)
    SELECT fence.shard, '00000000-0000-0000-0000-000000000000', lowest.id, clock_timestamp() FROM fence, lowest
    ON CONFLICT (shard) DO UPDATE
        SET before_id = greatest(w.before_id, least(w.next_id, excluded.next_id)),
            next_id = excluded.next_id,
            next_at = excluded.next_at
        WHERE w.next_at < clock_timestamp() - make_interval(secs => %(margin_s)s)
    RETURNING before_id
)
SELECT (SELECT count(*) FROM fence), (SELECT count(*) FROM raised);

-- name: watermark
SELECT before_id FROM baton.watermark WHERE shard = %(shard)s;

-- name: lately_ended
-- How the latest sagas of a definition ended, the last one first, of those that ended since its starts were let through
-- again; and whether they are held now.
SELECT coalesce(h.released_at, h.until), coalesce(h.released_at IS NULL AND h.until > clock_timestamp(), false),
    ARRAY(
        SELECT s.state
        FROM baton.saga AS s
        WHERE s.definition = %(definition)s
            AND s.shard = %(shard)s
            AND s.finished_at > coalesce(h.released_at, h.until, '-infinity')
        ORDER BY s.finished_at DESC
        LIMIT %(rows)s
    )
FROM (VALUES (1)) AS always (one)
LEFT JOIN baton.start_hold AS h ON h.shard = %(shard)s AND h.definition = %(definition)s;

-- name: hold_starts
-- Only by what was read: when an operator has let starts through meanwhile, the sagas from before do not count.
WITH fence AS MATERIALIZED (
    SELECT shard FROM baton.fence WHERE shard = %(shard)s AND epoch = %(epoch)s FOR SHARE
), held AS (
    INSERT INTO baton.start_hold AS h (shard, definition, since, until, of_last, turned_back, epoch)
    SELECT shard, %(definition)s, clock_timestamp(), clock_timestamp() + make_interval(secs => %(for_s)s),
        %(of_last)s, %(turned_back)s, %(epoch)s
    FROM fence
    ON CONFLICT (shard, definition) DO UPDATE
        SET since = excluded.since,
            until = excluded.until,
            of_last = excluded.of_last,
            turned_back = excluded.turned_back,
            epoch = excluded.epoch,
            released_at = NULL,
            released_by = NULL,
            reason = NULL
        WHERE coalesce(h.released_at, h.until) = %(let_through_at)s::timestamptz
    RETURNING until
)
SELECT (SELECT count(*) FROM fence), (SELECT until FROM held);
