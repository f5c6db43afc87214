-- What sagas wait for that a person decides: an approval, or the end of a pause. The leader says so on the saga's row, in
-- the statement that writes what led to it; so both are found without a look at what waits for anything else. On the row
-- of a saga that waits for neither, both columns are NULL and stay so: its updates stay on their page (HOT), and none of
-- these indexes is touched, but for the last one when it goes to sleep.
--
-- On a very large log all of this but the two UPDATEs may be made ahead, the indexes CONCURRENTLY.

-- Since when an approval of the saga has been asked for that nobody has given or refused.
ALTER TABLE baton.saga ADD COLUMN IF NOT EXISTS asked_at timestamptz;
-- Whether the saga sleeps for no other reason than that a person has paused it, or what it would do.
ALTER TABLE baton.saga ADD COLUMN IF NOT EXISTS set_aside boolean;

-- What waits for an approval, the longest first, of one definition or of some. It is on an expression so that no plan
-- takes another index of definitions for it, which would pass over all of their sagas that ask for nothing.
CREATE INDEX IF NOT EXISTS saga_asked ON baton.saga ((definition || ''), asked_at, id) WHERE asked_at IS NOT NULL;

-- The oldest sagas that sleep and were not set aside by a person.
CREATE INDEX IF NOT EXISTS saga_asleep ON baton.saga (shard, state, id)
    WHERE state IN ('RUNNING', 'COMPENSATING') AND next_run_at IS NOT NULL AND set_aside IS NULL;

-- The sagas that a person has paused by themselves: nothing wakes those but a person.
CREATE INDEX IF NOT EXISTS saga_paused ON baton.saga (shard, id) WHERE set_aside AND next_run_at = 'infinity';

-- What waits already. A step that asks for an approval has no intent before it, as one that waits for a time; which of
-- the two it is, only its definition says, in words that are not to be read here. So all are taken whose definition may
-- ask for an approval: whoever lists them looks, and the next transition of each sets it right.
UPDATE baton.saga AS s
SET asked_at = w.at
FROM (
    SELECT r.id, min(l.at) AS at
    FROM baton.saga AS r
    JOIN baton.definition AS d ON d.name = r.definition AND d.version = r.version
    JOIN LATERAL (
        SELECT DISTINCT ON (position) position, status, at
        FROM baton.step_log
        WHERE saga_id = r.id AND position > 0
        ORDER BY position, sequence DESC
    ) AS l ON l.status = 'waiting'
    WHERE r.state = 'RUNNING' AND r.next_run_at IS NOT NULL AND r.asked_at IS NULL
        AND (strpos(d.yaml, 'approval') > 0 OR strpos(d.yaml, '\') > 0)
        AND NOT EXISTS (
            SELECT 1
            FROM baton.step_log AS e
            WHERE e.saga_id = r.id AND e.position = l.position AND e.status = 'executing'
        )
    GROUP BY r.id
) AS w
WHERE s.id = w.id;

-- A saga that was paused by itself. What a pause of a definition or a participant holds asks again within minutes.
UPDATE baton.saga AS s
SET set_aside = true
WHERE s.state IN ('PENDING', 'RUNNING', 'COMPENSATING') AND s.next_run_at = 'infinity' AND s.set_aside IS NULL
    AND (
        SELECT l.status
        FROM baton.step_log AS l
        WHERE l.saga_id = s.id
            AND l.status IN ('paused', 'resumed', 'failed', 'unknown', 'cancelled', 'expired', 'undone')
        ORDER BY l.sequence DESC
        LIMIT 1
    ) = 'paused';
