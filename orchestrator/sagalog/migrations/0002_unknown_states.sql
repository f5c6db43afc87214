-- Sagas in a state that this release does not know. There should be none, so the index is empty: it lets a new leader
-- find and park them at no cost.
CREATE INDEX saga_unknown ON baton.saga (shard, id)
    WHERE state NOT IN ('PENDING', 'RUNNING', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'FAILED');
