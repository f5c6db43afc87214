-- name: claim
-- Take the key for this call, unless a higher epoch has been seen. Waits for a transaction that holds the same key.
-- One row: the higher epoch if there is one, and whether the key is now ours.
WITH newer AS (
    SELECT epoch FROM epoch WHERE shard = %(shard)s AND epoch > %(epoch)s
), claimed AS (
    INSERT INTO barrier (saga_id, step, kind, epoch, request_hash)
    SELECT %(saga_id)s, %(step)s, %(kind)s, %(epoch)s, %(request_hash)s
    WHERE NOT EXISTS (SELECT FROM newer)
    ON CONFLICT DO NOTHING
    RETURNING true
)
SELECT (SELECT epoch FROM newer), EXISTS (SELECT FROM claimed);

-- name: bury
-- Leave a tombstone for an action that was never seen. Waits for an action that is under way. A row: it is left now.
INSERT INTO barrier (saga_id, step, kind, epoch, tombstone)
VALUES (%(saga_id)s, %(step)s, 'action', %(epoch)s, true)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: stored
-- What the key was answered with, and the hash of the request that it was claimed for.
SELECT code, message, reason, response, tombstone, request_hash
FROM barrier WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = %(kind)s;

-- name: store
-- The answer of the call that claimed the key, and what it did, in the transaction of its effect.
WITH entry AS (
    INSERT INTO ledger (saga_id, step, kind, epoch, effect)
    SELECT %(saga_id)s, %(step)s, %(kind)s, %(epoch)s, effect FROM jsonb_array_elements(%(effects)s) AS effect
)
UPDATE barrier SET response = %(response)s
WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = %(kind)s;

-- name: store_refusal
-- The refusal of an action that has been rolled back. No row: another call has claimed the key since.
INSERT INTO barrier (saga_id, step, kind, epoch, request_hash, code, message, reason)
VALUES (%(saga_id)s, %(step)s, %(kind)s, %(epoch)s, %(request_hash)s, %(code)s, %(message)s, %(reason)s)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: raise_epoch
-- Remember a higher epoch; never lowers it.
INSERT INTO epoch (shard, epoch) VALUES (%(shard)s, %(epoch)s)
ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch WHERE epoch.epoch < excluded.epoch;

-- name: highest_epoch
SELECT epoch FROM epoch WHERE shard = %(shard)s;
