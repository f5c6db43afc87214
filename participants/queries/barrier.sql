-- name: claim
-- Take the key for this call, unless a higher epoch has been seen, or the saga is behind the watermark. Waits for a
-- transaction that holds the same key. One row: the higher epoch and the watermark where they are in the way, and
-- whether the key is now ours.
WITH newer AS (
    SELECT epoch FROM epoch WHERE shard = %(shard)s AND epoch > %(epoch)s
), ahead AS (
    SELECT saga_id FROM watermark WHERE shard = %(shard)s AND saga_id > %(saga_id)s COLLATE "C"
), claimed AS (
    INSERT INTO barrier (saga_id, step, kind, epoch, shard, request_hash)
    SELECT %(saga_id)s, %(step)s, %(kind)s, %(epoch)s, %(shard)s, %(request_hash)s
    WHERE NOT EXISTS (SELECT FROM newer) AND NOT EXISTS (SELECT FROM ahead)
    ON CONFLICT DO NOTHING
    RETURNING true
)
SELECT (SELECT epoch FROM newer), (SELECT saga_id FROM ahead), EXISTS (SELECT FROM claimed);

-- name: bury
-- Leave a tombstone for an action that was never seen, and make one for good of what a question has left. Waits for an
-- action that is under way. A row: it is left now.
WITH sealed AS (
    UPDATE barrier SET asked_attempt = NULL
    WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = 'action' AND tombstone AND asked_attempt IS NOT NULL
    RETURNING true
), buried AS (
    INSERT INTO barrier (saga_id, step, kind, epoch, shard, tombstone)
    VALUES (%(saga_id)s, %(step)s, 'action', %(epoch)s, %(shard)s, true)
    ON CONFLICT DO NOTHING
    RETURNING true
)
SELECT true WHERE EXISTS (SELECT FROM sealed) OR EXISTS (SELECT FROM buried);

-- name: reclaim
-- Take the key of an action that an earlier attempt's question has found not done. A row: the key is now ours.
UPDATE barrier SET tombstone = false, asked_attempt = NULL, epoch = %(epoch)s, request_hash = %(request_hash)s
WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = 'action' AND tombstone AND asked_attempt < %(attempt)s
RETURNING true;

-- name: withdraw
-- Turn an action that was accepted and is not answered into a tombstone. Waits for an answer that is under way, and
-- then finds nothing to withdraw.
UPDATE barrier SET accepted = false, tombstone = true
WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = 'action' AND accepted
RETURNING true;

-- name: stored
-- What the key was answered with, and the hash of the request that it was claimed for.
SELECT code, message, reason, response, tombstone, request_hash, accepted, answer_token
FROM barrier WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = %(kind)s;

-- name: store
-- The answer of the call that claimed the key, and what it did, in the transaction of its effect. No row: the watermark
-- has passed the saga since the key was claimed. That must be asked again here: the claim may have waited, and whoever
-- it waited for, or the row it would have met, may have been purged meanwhile.
WITH entry AS (
    INSERT INTO ledger (saga_id, step, kind, epoch, effect)
    SELECT %(saga_id)s, %(step)s, %(kind)s, %(epoch)s, effect FROM jsonb_array_elements(%(effects)s) AS effect
)
UPDATE barrier SET response = %(response)s, accepted = %(accepted)s, answer_token = %(answer_token)s
WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = %(kind)s
    AND NOT EXISTS (SELECT FROM watermark WHERE shard = %(shard)s AND saga_id > %(saga_id)s COLLATE "C")
RETURNING true;

-- name: store_refusal
-- The refusal of an action that has been rolled back. No row: another call has claimed the key since, or the watermark
-- has passed the saga.
WITH reclaimed AS (
    UPDATE barrier SET tombstone = false, asked_attempt = NULL, epoch = %(epoch)s, request_hash = %(request_hash)s,
        code = %(code)s, message = %(message)s, reason = %(reason)s
    WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = %(kind)s AND tombstone AND asked_attempt < %(attempt)s
        AND NOT EXISTS (SELECT FROM watermark WHERE shard = %(shard)s AND saga_id > %(saga_id)s COLLATE "C")
    RETURNING true
), stored AS (
    INSERT INTO barrier (saga_id, step, kind, epoch, shard, request_hash, code, message, reason)
    SELECT %(saga_id)s, %(step)s, %(kind)s, %(epoch)s, %(shard)s, %(request_hash)s, %(code)s, %(message)s, %(reason)s
    WHERE NOT EXISTS (SELECT FROM watermark WHERE shard = %(shard)s AND saga_id > %(saga_id)s COLLATE "C")
    ON CONFLICT DO NOTHING
    RETURNING true
)
SELECT true WHERE EXISTS (SELECT FROM reclaimed) OR EXISTS (SELECT FROM stored);

-- name: rename_token
-- The latest token by which the orchestrator knows an open answer. No row: it is open no more.
UPDATE barrier SET answer_token = %(answer_token)s
WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = 'action' AND accepted
RETURNING true;

-- name: settle
-- Make sure that an action that was never seen never will be, at no attempt up to this one: a tombstone, unless its row is
-- there. Waits for an action that is under way. One row, as of `claim`.
WITH newer AS (
    SELECT epoch FROM epoch WHERE shard = %(shard)s AND epoch > %(epoch)s
), ahead AS (
    SELECT saga_id FROM watermark WHERE shard = %(shard)s AND saga_id > %(saga_id)s COLLATE "C"
), asked_again AS (
    UPDATE barrier SET asked_attempt =
        CASE WHEN %(asked_attempt)s::integer IS NOT NULL THEN greatest(asked_attempt, %(asked_attempt)s) END
    WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = 'action' AND tombstone AND asked_attempt IS NOT NULL
        AND NOT EXISTS (SELECT FROM newer) AND NOT EXISTS (SELECT FROM ahead)
    RETURNING true
), buried AS (
    INSERT INTO barrier (saga_id, step, kind, epoch, shard, tombstone, asked_attempt)
    SELECT %(saga_id)s, %(step)s, 'action', %(epoch)s, %(shard)s, true, %(asked_attempt)s::integer
    WHERE NOT EXISTS (SELECT FROM newer) AND NOT EXISTS (SELECT FROM ahead)
    ON CONFLICT DO NOTHING
    RETURNING true
)
SELECT (SELECT epoch FROM newer), (SELECT saga_id FROM ahead),
    EXISTS (SELECT FROM buried) OR EXISTS (SELECT FROM asked_again);

-- name: ahead
-- The watermark, if it has passed the saga.
SELECT saga_id FROM watermark WHERE shard = %(shard)s AND saga_id > %(saga_id)s COLLATE "C";

-- name: raise_epoch
-- Remember a higher epoch; never lowers it.
INSERT INTO epoch (shard, epoch) VALUES (%(shard)s, %(epoch)s)
ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch WHERE epoch.epoch < excluded.epoch;

-- name: highest_epoch
SELECT epoch FROM epoch WHERE shard = %(shard)s;
