-- Definitions whose new starts are held because too many of their latest sagas had to be undone. The leader writes a
-- hold, under its fence; every replica goes by it; an operator ends it early. The row stays: sagas that ended before
-- starts were let through again, by an operator or by the time, do not count against the definition any more.
CREATE TABLE baton.start_hold (
    shard       integer NOT NULL,
    definition  text NOT NULL,
    since       timestamptz NOT NULL,
    until       timestamptz NOT NULL,
    of_last     integer NOT NULL,
    turned_back integer NOT NULL,
    epoch       bigint NOT NULL,
    released_at timestamptz,
    released_by text,
    reason      text,
    PRIMARY KEY (shard, definition)
);

-- The latest sagas of a definition that have ended, without a look at the others.
CREATE INDEX saga_ended ON baton.saga (definition, finished_at) WHERE finished_at IS NOT NULL;
