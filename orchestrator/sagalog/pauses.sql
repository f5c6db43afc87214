-- What any replica stores of pauses for the leader to heed, and reads of them. Nothing here is fenced: a pause, or its
-- end, changes nothing until the leader goes by it (heed_pauses in term.sql).

-- name: pause
-- Repeated after a lost connection, it finds its own row. Another pause of the same may be in force.
WITH made AS (
    INSERT INTO baton.pause (id, shard, kind, name, paused_by, reason)
    VALUES (%(id)s, %(shard)s, %(kind)s, %(name)s, %(by)s, %(reason)s)
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*) FROM made;

-- name: resume
-- Said again by the same person for the same reason, within a minute, it finds what it has ended: the answer was lost.
WITH ended AS (
    UPDATE baton.pause
    SET resumed_by = %(by)s, resumed_reason = %(reason)s, resumed_at = clock_timestamp()
    WHERE shard = %(shard)s AND kind = %(kind)s AND name = %(name)s AND resumed_at IS NULL
    RETURNING id, resumed_at
)
SELECT id FROM (
    SELECT id, resumed_at FROM ended
    UNION ALL
    SELECT id, resumed_at FROM baton.pause
    WHERE shard = %(shard)s AND kind = %(kind)s AND name = %(name)s AND resumed_by = %(by)s
        AND resumed_reason = %(reason)s AND resumed_at > clock_timestamp() - interval '1 minute'
) AS found
ORDER BY resumed_at DESC
LIMIT 1;

-- name: one
-- The pause of an id, or the one of a name that is in force.
SELECT id, kind, name, paused_by, reason, paused_at, heeded_at, resumed_by, resumed_reason, resumed_at, released_at
FROM baton.pause
WHERE id = %(id)s OR (shard = %(shard)s AND kind = %(kind)s AND name = %(name)s AND resumed_at IS NULL)
ORDER BY id <> %(id)s
LIMIT 1;

-- name: in_force
SELECT id, kind, name, paused_by, reason, paused_at, heeded_at, resumed_by, resumed_reason, resumed_at, released_at
FROM baton.pause
WHERE shard = %(shard)s AND resumed_at IS NULL
ORDER BY kind, name;

-- name: ended
SELECT id, kind, name, paused_by, reason, paused_at, heeded_at, resumed_by, resumed_reason, resumed_at, released_at
FROM baton.pause
WHERE shard = %(shard)s AND resumed_at IS NOT NULL
ORDER BY paused_at DESC, id
LIMIT %(rows)s;
