-- name: open_movement
-- A row unless the order has a movement of this kind that is not undone.
INSERT INTO movement (kind, order_id) VALUES (%(kind)s, %(order_id)s)
ON CONFLICT (kind, order_id) WHERE NOT undone DO NOTHING
RETURNING id;

-- name: close_movement
UPDATE movement SET undone = true WHERE kind = %(kind)s AND order_id = %(order_id)s AND NOT undone
RETURNING id;

-- name: add_unknown
-- Stock codes that are seen the first time begin with the initial stock.
INSERT INTO stock (stock_code, initial, available)
SELECT code, %(initial)s, %(initial)s FROM unnest(%(codes)s::text[]) AS code
WHERE NOT EXISTS (SELECT FROM stock WHERE stock_code = code)
ORDER BY code
ON CONFLICT DO NOTHING;

-- name: lock
-- All of them in one order, so that two orders of the same goods wait for each other and never deadlock.
SELECT stock_code, available FROM stock WHERE stock_code = ANY (%(codes)s::text[]) ORDER BY stock_code FOR UPDATE;

-- name: move
-- The lines of a movement, and their sum in stock. The rows are locked.
WITH line AS (
    INSERT INTO movement_line (movement_id, stock_code, quantity)
    SELECT %(id)s, code, quantity FROM unnest(%(codes)s::text[], %(quantities)s::bigint[]) AS t (code, quantity)
    RETURNING stock_code, quantity
)
UPDATE stock SET available = available + %(sign)s * line.quantity FROM line WHERE stock.stock_code = line.stock_code;

-- name: lock_lines
SELECT stock_code FROM stock
WHERE stock_code IN (SELECT stock_code FROM movement_line WHERE movement_id = %(id)s)
ORDER BY stock_code FOR UPDATE;

-- name: move_back
WITH moved AS (
    UPDATE stock SET available = available + %(sign)s * line.quantity
    FROM movement_line AS line WHERE line.movement_id = %(id)s AND stock.stock_code = line.stock_code
    RETURNING line.quantity
)
SELECT coalesce(sum(quantity), 0)::bigint FROM moved;

-- name: set_stock
INSERT INTO stock (stock_code, initial, available) VALUES (%(code)s, %(quantity)s, %(quantity)s)
ON CONFLICT (stock_code) DO UPDATE
SET initial = stock.initial + excluded.available - stock.available, available = excluded.available;

-- name: get_stock
SELECT available, (
    SELECT coalesce(sum(quantity), 0)::bigint FROM movement_line AS line JOIN movement ON movement.id = movement_id
    WHERE kind = 'reservation' AND NOT undone AND line.stock_code = stock.stock_code)
FROM stock WHERE stock_code = %(code)s;

-- name: totals
SELECT coalesce(sum(initial), 0)::bigint, coalesce(sum(available), 0)::bigint,
    (SELECT coalesce(sum(quantity), 0)::bigint FROM movement_line JOIN movement ON movement.id = movement_id
     WHERE kind = 'reservation' AND NOT undone),
    (SELECT coalesce(sum(quantity), 0)::bigint FROM movement_line JOIN movement ON movement.id = movement_id
     WHERE kind = 'restock' AND NOT undone)
FROM stock;

-- name: reservation
SELECT movement.id, sum(quantity)::bigint FROM movement JOIN movement_line ON movement_id = movement.id
WHERE kind = 'reservation' AND order_id = %(order_id)s AND NOT undone
GROUP BY movement.id;
