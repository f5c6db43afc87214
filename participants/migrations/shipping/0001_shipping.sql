CREATE TABLE shipment (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id    text        NOT NULL,
    destination text        NOT NULL,
    cancelled   boolean     NOT NULL DEFAULT false,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX shipment_once ON shipment (order_id) WHERE NOT cancelled;
