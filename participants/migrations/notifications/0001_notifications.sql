-- What is to be sent to people. No unique constraint on the event on purpose: if one was ever handled twice, both rows
-- must be there to be seen.
CREATE TABLE notification (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id   text        NOT NULL,
    saga_id    text        NOT NULL,
    definition text        NOT NULL,
    state      text        NOT NULL,
    message    text        NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX notification_by_saga ON notification (saga_id);
