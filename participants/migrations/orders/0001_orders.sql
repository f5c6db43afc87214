-- The second constraint is there for demonstrations: an order whose id begins with `fail-database` is refused by the
-- database itself and by nothing else.
CREATE TABLE customer_order (
    id          bigint         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id    text           NOT NULL,
    customer_id text           NOT NULL,
    total       numeric(16, 4) NOT NULL,
    state       text           NOT NULL DEFAULT 'created' CHECK (state IN ('created', 'confirmed', 'cancelled')),
    at          timestamptz    NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT total_not_negative CHECK (total >= 0),
    CONSTRAINT order_id_accepted CHECK (order_id NOT LIKE 'fail-database%')
);
CREATE UNIQUE INDEX customer_order_once ON customer_order (order_id) WHERE state <> 'cancelled';
