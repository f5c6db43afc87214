-- One row for each event that was handled, written in the transaction of its effect: an event that comes again finds it.
CREATE TABLE processed_event (
    id text        PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- For the removal of what is too old to come again.
CREATE INDEX processed_event_at ON processed_event (at);
