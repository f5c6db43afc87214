-- name: add
-- What has happened, and what took effect by it.
WITH entry AS (
    INSERT INTO ledger (saga_id, step, kind, epoch, effect)
    SELECT %(order_id)s, %(step)s, 'action', 0, effect FROM jsonb_array_elements(%(effects)s) AS effect
)
INSERT INTO outbox (event_id, type, body) VALUES (%(event_id)s, %(type)s, %(body)s);

-- name: take
-- Held until they are removed, so that two publishers of one service do not send the same.
SELECT id, event_id, type, body FROM outbox ORDER BY id LIMIT %(rows)s FOR UPDATE SKIP LOCKED;

-- name: remove
DELETE FROM outbox WHERE id = ANY (%(ids)s);
