-- name: notify
INSERT INTO notification (event_id, saga_id, definition, state, message)
VALUES (%(event_id)s, %(saga_id)s, %(definition)s, %(state)s, %(message)s);

-- name: of_saga
SELECT event_id, definition, state, message FROM notification WHERE saga_id = %(saga_id)s ORDER BY id LIMIT %(limit)s;

-- name: totals
SELECT count(*) FILTER (WHERE state = 'COMPLETED'), count(*) FILTER (WHERE state = 'COMPENSATED'),
    count(*) FILTER (WHERE state = 'FAILED')
FROM notification;
