-- Behind which participants may forget: no saga with an id below `before_id` is kept, and none will ever be started.
-- It is raised in two strides, `next_id` first: so `before_id` is what was true a margin of time ago, and whatever was
-- under way to a participant then has arrived or is lost.

CREATE TABLE baton.watermark (
    shard     integer PRIMARY KEY,
    before_id uuid NOT NULL,
    next_id   uuid NOT NULL,
    next_at   timestamptz NOT NULL
);

-- A replica makes the ids of its sagas by its own clock. One whose clock is so far behind that participants have
-- forgotten that time may start nothing: a call of such a saga would be refused, or done twice.
CREATE FUNCTION baton.start_not_before_watermark() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM new_rows AS n JOIN baton.watermark AS w ON w.shard = n.shard WHERE n.id < w.before_id
    ) THEN
        RAISE EXCEPTION 'the clock of this replica is far behind: its new sagas are older than the watermark';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER start_not_before_watermark AFTER INSERT ON baton.saga
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION baton.start_not_before_watermark();
