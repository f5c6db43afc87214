-- name: claim
-- A row unless the event was handled. Waits for a transaction that handles it now.
INSERT INTO processed_event (id) VALUES (%(id)s) ON CONFLICT DO NOTHING RETURNING id;

-- name: forget
-- A bounded part of what is too old to come again; the oldest first.
DELETE FROM processed_event
WHERE id IN (
    SELECT id FROM processed_event
    WHERE at < clock_timestamp() - make_interval(secs => %(keep_s)s)
    ORDER BY at LIMIT %(rows)s
)
RETURNING id;
