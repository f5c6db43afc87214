-- How many sagas there are by definition and state, kept by the database itself, whoever writes: exact at every moment,
-- and read without a look at the sagas. Each statement that adds, changes or removes sagas appends what it changed, in
-- its own transaction; nobody waits for anybody, as all would who kept one row for a state. The leader's upkeep folds
-- the changes into the sums, so that few are ever waiting.

CREATE TABLE baton.tally (
    shard      integer NOT NULL,
    definition text NOT NULL,
    state      text NOT NULL,
    sagas      bigint NOT NULL,
    PRIMARY KEY (shard, definition, state)
) WITH (fillfactor = 50);

-- What is not folded in yet. The count of a state is its sum in `tally` and its changes here.
CREATE TABLE baton.tally_change (
    shard      integer NOT NULL,
    definition text NOT NULL,
    state      text NOT NULL,
    change     bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE FUNCTION baton.tally_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO baton.tally_change (shard, definition, state, change)
    SELECT shard, definition, state, count(*) FROM new_rows GROUP BY shard, definition, state;
    RETURN NULL;
END
$$;

CREATE FUNCTION baton.tally_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO baton.tally_change (shard, definition, state, change)
    SELECT shard, definition, state, -count(*) FROM old_rows GROUP BY shard, definition, state;
    RETURN NULL;
END
$$;

-- Most updates change no state: what a statement takes away and what it adds cancel out, and nothing is written.
CREATE FUNCTION baton.tally_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO baton.tally_change (shard, definition, state, change)
    SELECT shard, definition, state, sum(change)
    FROM (
        SELECT shard, definition, state, 1 AS change FROM new_rows
        UNION ALL
        SELECT shard, definition, state, -1 FROM old_rows
    ) AS changed
    GROUP BY shard, definition, state
    HAVING sum(change) <> 0;
    RETURN NULL;
END
$$;

-- A trigger's creation waits for writers and holds new ones off until the migration is committed: so the sums below
-- and the changes from then on miss nothing and count nothing twice.
CREATE TRIGGER tally_inserted AFTER INSERT ON baton.saga
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION baton.tally_inserted();
CREATE TRIGGER tally_deleted AFTER DELETE ON baton.saga
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION baton.tally_deleted();
CREATE TRIGGER tally_updated AFTER UPDATE ON baton.saga
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION baton.tally_updated();

INSERT INTO baton.tally (shard, definition, state, sagas)
SELECT shard, definition, state, count(*) FROM baton.saga GROUP BY shard, definition, state;
