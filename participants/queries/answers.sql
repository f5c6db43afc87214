-- name: take
-- The action's row, to be answered now: holds off its compensation and any other answer until this transaction ends.
SELECT accepted, tombstone, answer_token, epoch, shard, request_hash FROM barrier
WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = 'action' AND answer_token <> ''
    AND NOT EXISTS (SELECT FROM watermark AS w WHERE w.shard = barrier.shard AND w.saga_id > %(saga_id)s COLLATE "C")
FOR UPDATE;

-- name: answer
-- Store the answer, what took effect, and that the orchestrator is to be told, in the transaction of the effect.
WITH entry AS (
    INSERT INTO ledger (saga_id, step, kind, epoch, effect)
    SELECT %(saga_id)s, %(step)s, 'action', %(epoch)s, effect FROM jsonb_array_elements(%(effects)s) AS effect
), told AS (
    INSERT INTO answer (saga_id, step, token, code, message, response)
    VALUES (%(saga_id)s, %(step)s, %(token)s, %(code)s, %(message)s, %(response)s)
)
UPDATE barrier SET accepted = false, code = %(code)s, message = %(message)s, response = %(response)s
WHERE saga_id = %(saga_id)s AND step = %(step)s AND kind = 'action';

-- name: due
-- Some answers that are to be told now. Whoever takes them has so long for it; then they are anybody's again.
UPDATE answer SET attempts = attempts + 1, next_at = clock_timestamp() + make_interval(secs => %(taken_s)s)
WHERE (saga_id, step) IN (
    SELECT saga_id, step FROM answer WHERE next_at <= clock_timestamp()
    ORDER BY next_at LIMIT %(rows)s FOR UPDATE SKIP LOCKED
)
RETURNING saga_id, step, token, code, message, response;

-- name: later
-- It could not be told: twice as long as the last time, up to a bound.
UPDATE answer SET next_at = clock_timestamp()
    + make_interval(secs => least(%(again_s)s * 2 ^ least(attempts - 1, 20), %(again_max_s)s))
WHERE saga_id = %(saga_id)s AND step = %(step)s;

-- name: told
DELETE FROM answer WHERE saga_id = %(saga_id)s AND step = %(step)s;

-- name: next_due
-- Seconds until the next answer is to be told; NULL when there is none.
SELECT extract(epoch FROM min(next_at) - clock_timestamp())::float8 FROM answer;

-- name: open
-- Actions that were accepted and are not answered yet, the oldest first.
SELECT saga_id, step, answer_token, at FROM barrier WHERE accepted ORDER BY at LIMIT %(rows)s;
