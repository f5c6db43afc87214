-- The step log as a stream of events, in the order of (epoch, log_position): see migration 0010. Reads are bounded by
-- the rows that they look at, not by those that they find, so that no filter makes one long.

-- name: page
-- A page behind a place. The inner select is what was looked at: its last place is where the next page begins, whatever
-- the filter left of it. `turned` is where a saga first turned back, and `undone` says that it had completed by then:
-- with them the state after every row is known, the same whenever it is asked for. Large results count by their stored
-- size; the first row comes however large it is. The horizon is read in the same snapshot: what it says is missing is
-- missing from this page.
WITH looked AS MATERIALIZED (
    SELECT saga_id, sequence, step, position, status, attempt, result, error_code, error_message, epoch, at,
        ordered, log_position
    FROM baton.step_log
    WHERE log_position IS NOT NULL
        AND (epoch, log_position) > (%(epoch)s, %(position)s)
        AND (%(saga)s::uuid IS NULL OR saga_id = %(saga)s::uuid)
    ORDER BY epoch, log_position
    LIMIT %(rows)s
), sized AS (
    SELECT *, CASE WHEN %(payloads)s THEN sum(coalesce(pg_column_size(result), 0)) OVER upwards ELSE 0 END AS bytes,
        row_number() OVER upwards AS number
    FROM looked
    WINDOW upwards AS (ORDER BY epoch, log_position)
), fitting AS MATERIALIZED (
    SELECT * FROM sized WHERE bytes <= %(bytes)s OR number = 1
), turn AS (
    SELECT t.saga_id, min(t.sequence) AS turned, bool_or(t.status = 'undone') AS undone
    FROM baton.step_log AS t
    WHERE t.saga_id = ANY (ARRAY(SELECT DISTINCT saga_id FROM fitting))
        AND t.status IN ('failed', 'unknown', 'cancelled', 'expired', 'undone')
    GROUP BY t.saga_id
)
SELECT (SELECT count(*) FROM looked), (SELECT log_position FROM baton.event_horizon WHERE id = 1),
    f.epoch, f.log_position, s.id, s.definition, s.version, s.state, s.sequence,
    f.sequence, f.step, f.position, f.status, f.attempt, CASE WHEN %(payloads)s THEN f.result::text END, f.error_code,
    CASE WHEN %(payloads)s THEN f.error_message END, f.epoch, f.at,
    CASE
        WHEN %(payloads)s THEN f.ordered::text
        WHEN f.ordered IS NOT NULL THEN jsonb_build_object('by', f.ordered -> 'by')::text
    END,
    turn.turned, turn.undone
FROM fitting AS f
LEFT JOIN baton.saga AS s ON s.id = f.saga_id AND s.shard = %(shard)s
LEFT JOIN turn ON turn.saga_id = f.saga_id
ORDER BY f.epoch, f.log_position;

-- name: head
-- The last place, where a stream that wants nothing of the past begins, and by which streams hear of news.
SELECT epoch, log_position
FROM baton.step_log
WHERE log_position IS NOT NULL
ORDER BY epoch DESC, log_position DESC
LIMIT 1;

-- name: horizon
SELECT log_position FROM baton.event_horizon WHERE id = 1;

-- name: consumer
SELECT epoch, log_position, accepted FROM baton.event_consumer WHERE name = %(name)s;

-- name: commit
-- A commit that comes late, from a stream that was followed by another one, moves nothing back. No row: it did not move.
INSERT INTO baton.event_consumer AS c (name, epoch, log_position, accepted)
VALUES (%(name)s, %(epoch)s, %(position)s, %(accepted)s)
ON CONFLICT (name) DO UPDATE
    SET epoch = excluded.epoch, log_position = excluded.log_position, accepted = excluded.accepted,
        committed_at = clock_timestamp()
    WHERE (c.epoch, c.log_position) < (excluded.epoch, excluded.log_position)
RETURNING epoch, log_position, accepted;

-- name: advance
-- By compare-and-swap: when somebody else has reset the consumer, that stands. Repeated, it finds that it is done.
UPDATE baton.event_consumer
SET epoch = %(epoch)s, log_position = %(position)s, accepted = %(accepted)s, committed_at = clock_timestamp()
WHERE name = %(name)s AND epoch = %(seen_epoch)s AND log_position = %(seen_position)s
RETURNING epoch, log_position, accepted;

-- name: reset
INSERT INTO baton.event_consumer AS c (name, epoch, log_position, accepted)
VALUES (%(name)s, %(epoch)s, %(position)s, %(accepted)s)
ON CONFLICT (name) DO UPDATE
    SET epoch = excluded.epoch, log_position = excluded.log_position, accepted = excluded.accepted,
        committed_at = clock_timestamp()
RETURNING epoch, log_position, accepted;

-- name: delete
DELETE FROM baton.event_consumer WHERE name = %(name)s RETURNING name;

-- name: consumers
-- How far behind each is, counted only as far as it matters.
SELECT c.name, c.epoch, c.log_position, c.accepted, c.committed_at, pending.count, pending.oldest,
    h.log_position > greatest(c.log_position, c.accepted)
FROM baton.event_consumer AS c
JOIN baton.event_horizon AS h ON h.id = 1,
LATERAL (
    SELECT count(*) AS count, min(at) AS oldest
    FROM (
        SELECT at FROM baton.step_log
        WHERE log_position IS NOT NULL AND (epoch, log_position) > (c.epoch, c.log_position)
        ORDER BY epoch, log_position
        LIMIT %(counted_max)s
    ) AS behind
) AS pending
ORDER BY c.name
LIMIT %(limit)s;

-- name: unseen
-- Those of some sagas that have an event behind the place of a consumer; all that have events, while it has no place.
SELECT w.id
FROM unnest(%(ids)b::uuid[]) AS w (id)
WHERE EXISTS (
    SELECT 1
    FROM baton.step_log AS l
    WHERE l.saga_id = w.id AND l.log_position IS NOT NULL AND NOT EXISTS (
        SELECT 1
        FROM baton.event_consumer AS c
        WHERE c.name = %(name)s AND (c.epoch, c.log_position) >= (l.epoch, l.log_position)
    )
);
