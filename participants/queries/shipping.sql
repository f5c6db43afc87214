-- name: ship
-- A row unless the order is on its way.
INSERT INTO shipment (order_id, destination) VALUES (%(order_id)s, %(destination)s)
ON CONFLICT (order_id) WHERE NOT cancelled DO NOTHING
RETURNING id;

-- name: cancel
UPDATE shipment SET cancelled = true WHERE order_id = %(order_id)s AND NOT cancelled
RETURNING id;

-- name: latest
SELECT id, destination, cancelled FROM shipment WHERE order_id = %(order_id)s ORDER BY id DESC LIMIT 1;

-- name: totals
SELECT count(*) FILTER (WHERE NOT cancelled), count(*) FILTER (WHERE cancelled) FROM shipment;
