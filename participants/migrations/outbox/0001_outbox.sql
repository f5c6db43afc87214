-- What has happened and is not yet at the broker, written in the transaction in which it happened.
CREATE TABLE outbox (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text        NOT NULL,
    type     text        NOT NULL,
    body     bytea       NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
