-- Sagas that ended well, in the order of their ends: retention goes through those that ended long ago, and sees nothing of
-- what is live or parked, however old that is. No update of a live saga touches it; it grows when a saga ends.
--
-- On a very large log it may be made ahead, CONCURRENTLY.
CREATE INDEX IF NOT EXISTS saga_over ON baton.saga (shard, finished_at, id)
    WHERE state IN ('COMPLETED', 'COMPENSATED') AND finished_at IS NOT NULL;
