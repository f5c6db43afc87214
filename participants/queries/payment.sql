-- name: declined
SELECT reason FROM declined_card WHERE customer_id = %(customer_id)s;

-- name: pay
-- A row unless the order has a payment of this kind that is not undone.
INSERT INTO payment (kind, order_id, customer_id, amount)
VALUES (%(kind)s, %(order_id)s, %(customer_id)s, %(amount)s)
ON CONFLICT (kind, order_id) WHERE NOT undone DO NOTHING
RETURNING id;

-- name: undo
UPDATE payment SET undone = true WHERE kind = %(kind)s AND order_id = %(order_id)s AND NOT undone
RETURNING id, customer_id, amount;

-- name: book
INSERT INTO account (customer_id, balance) VALUES (%(customer_id)s, %(amount)s)
ON CONFLICT (customer_id) DO UPDATE SET balance = account.balance + excluded.balance;

-- name: decline_card
INSERT INTO declined_card (customer_id, reason) VALUES (%(customer_id)s, %(reason)s)
ON CONFLICT (customer_id) DO UPDATE SET reason = excluded.reason;

-- name: accept_card
DELETE FROM declined_card WHERE customer_id = %(customer_id)s;

-- name: balance
SELECT balance FROM account WHERE customer_id = %(customer_id)s;

-- name: totals
-- A charge that was undone has been refunded; a refund that was undone has been taken back, as if it had not been.
SELECT
    coalesce(sum(amount) FILTER (WHERE kind = 'charge'), 0),
    coalesce(sum(amount) FILTER (WHERE (kind = 'charge') = undone), 0),
    (SELECT coalesce(sum(balance), 0) FROM account)
FROM payment;

-- name: charge
SELECT id, amount FROM payment WHERE kind = 'charge' AND order_id = %(order_id)s AND NOT undone;
