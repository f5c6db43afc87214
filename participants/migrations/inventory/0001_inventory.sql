-- `initial` is what was there, or was set by an administrator, apart from orders and returns. `available` may become
-- negative by the compensation of a restock whose goods were sold meanwhile; a reservation never takes it below zero.
CREATE TABLE stock (
    stock_code text   PRIMARY KEY,
    initial    bigint NOT NULL,
    available  bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE movement (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     text        NOT NULL CHECK (kind IN ('reservation', 'restock')),
    order_id text        NOT NULL,
    undone   boolean     NOT NULL DEFAULT false,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX movement_once ON movement (kind, order_id) WHERE NOT undone;

CREATE TABLE movement_line (
    movement_id bigint NOT NULL REFERENCES movement,
    stock_code  text   NOT NULL REFERENCES stock,
    quantity    bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (movement_id, stock_code)
);
