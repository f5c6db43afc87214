CREATE TABLE declined_card (
    customer_id text PRIMARY KEY,
    reason      text NOT NULL
);

-- A charge for an order, or a refund for a return; `undone` once its compensation has come.
CREATE TABLE payment (
    id          bigint         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text           NOT NULL CHECK (kind IN ('charge', 'refund')),
    order_id    text           NOT NULL,
    customer_id text           NOT NULL,
    amount      numeric(16, 4) NOT NULL CHECK (amount >= 0),
    undone      boolean        NOT NULL DEFAULT false,
    at          timestamptz    NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX payment_once ON payment (kind, order_id) WHERE NOT undone;

-- Charged less refunded, for each customer. Guests share the account of the empty id.
CREATE TABLE account (
    customer_id text           PRIMARY KEY,
    balance     numeric(18, 4) NOT NULL
) WITH (fillfactor = 50);
