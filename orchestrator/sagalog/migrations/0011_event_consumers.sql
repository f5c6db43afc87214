-- How far each named consumer of events has come: everything up to (epoch, log_position) was handled. Any replica writes
-- it, without the fence: a commit only ever moves a position forward. `accepted` is the horizon at which it began.
CREATE TABLE baton.event_consumer (
    name         text PRIMARY KEY,
    epoch        bigint NOT NULL,
    log_position bigint NOT NULL,
    accepted     bigint NOT NULL DEFAULT 0,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row: the highest log_position that was ever removed. Whoever has not come as far may have missed something.
CREATE TABLE baton.event_horizon (
    id           integer PRIMARY KEY CHECK (id = 1),
    log_position bigint NOT NULL
);
INSERT INTO baton.event_horizon (id, log_position) VALUES (1, 0);

-- Whoever removes rows moves the horizon, in the same transaction, whatever statement it uses.
CREATE FUNCTION baton.move_event_horizon() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE baton.event_horizon AS h SET log_position = r.log_position
    FROM (SELECT max(log_position) AS log_position FROM removed) AS r
    WHERE h.id = 1 AND h.log_position < r.log_position;
    RETURN NULL;
END
$$;

CREATE TRIGGER step_log_removed AFTER DELETE ON baton.step_log
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION baton.move_event_horizon();
