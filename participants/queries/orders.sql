-- name: create
-- A row unless there is such an order that is not cancelled.
INSERT INTO customer_order (order_id, customer_id, total) VALUES (%(order_id)s, %(customer_id)s, %(total)s)
ON CONFLICT (order_id) WHERE state <> 'cancelled' DO NOTHING
RETURNING id;

-- name: change
-- From one state to another; no row when the order is not in the first.
UPDATE customer_order SET state = %(target)s WHERE order_id = %(order_id)s AND state = ANY (%(sources)s::text[])
RETURNING id;

-- name: latest
SELECT customer_id, total, state FROM customer_order WHERE order_id = %(order_id)s ORDER BY id DESC LIMIT 1;

-- name: totals
SELECT count(*) FILTER (WHERE state = 'created'), count(*) FILTER (WHERE state = 'confirmed'),
    count(*) FILTER (WHERE state = 'cancelled')
FROM customer_order;
