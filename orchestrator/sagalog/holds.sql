-- Which definitions' starts are held. Only the leader holds them (upkeep.sql); any replica may let them through again.

-- name: start_holds
SELECT definition, since, until, of_last, turned_back
FROM baton.start_hold
WHERE shard = %(shard)s AND released_at IS NULL AND until > clock_timestamp()
ORDER BY definition;

-- name: release
-- Said again by the same person for the same reason, soon, since its answer was lost, it finds what it let go on.
WITH released AS (
    UPDATE baton.start_hold
    SET released_at = clock_timestamp(), released_by = %(by)s, reason = %(reason)s
    WHERE shard = %(shard)s AND definition = %(definition)s AND released_at IS NULL AND until > clock_timestamp()
    RETURNING definition, since, until, of_last, turned_back
)
SELECT definition, since, until, of_last, turned_back FROM released
UNION ALL
SELECT definition, since, until, of_last, turned_back FROM baton.start_hold
WHERE shard = %(shard)s AND definition = %(definition)s AND released_by = %(by)s AND reason = %(reason)s
    AND released_at > clock_timestamp() - interval '1 minute';
