-- Releases side by side: who cannot read what is in the log may not lead. A leader parks a saga whose rows it does not
-- understand, so a leader of the release before must not meet rows of this one. Its statements are what they are, and
-- know nothing of this; so the database refuses them the raise of the epoch. It goes on taking starts and reading.

-- The level that a leader must be able to read. It only ever grows.
CREATE TABLE baton.reading_level (
    id    integer PRIMARY KEY CHECK (id = 1),
    level integer NOT NULL
);
INSERT INTO baton.reading_level (id, level) VALUES (1, 1);

-- What the session's release can read. Releases from before there were levels say nothing.
CREATE FUNCTION baton.offered_level() RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT coalesce(nullif(current_setting('baton.level', true), '')::integer, 1)
$$;

-- A raise by a release that reads more makes its level the one that is required, from the first epoch on: it may write
-- anything that it knows in every saga, whatever the definition. AFTER, so that the fence row is locked before the
-- level's row, here and below.
CREATE FUNCTION baton.raise_needs_level() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    offered integer := baton.offered_level();
    required integer;
BEGIN
    UPDATE baton.reading_level SET level = offered WHERE level < offered;
    SELECT level INTO required FROM baton.reading_level WHERE id = 1 FOR SHARE;
    IF offered < required THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format(
                'this replica may not lead: the saga log needs a release that reads level %s, and it reads level %s. '
                'It takes starts and answers reads; replace it by the newer release',
                required, offered
            );
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER raise_needs_level AFTER INSERT OR UPDATE OF epoch ON baton.fence
    FOR EACH ROW EXECUTE FUNCTION baton.raise_needs_level();

-- A replica that reads more has stored what leaders must understand, while one that reads less may lead: from now on it
-- may not. The epoch goes up with it, in the same transaction, so that the present leader writes nothing any more and
-- cannot have met what was stored. Nobody writes under the epoch in between; the next leader raises it again.
CREATE FUNCTION baton.require_level() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    offered integer := baton.offered_level();
BEGIN
    IF offered > (SELECT level FROM baton.reading_level WHERE id = 1) THEN
        PERFORM 1 FROM baton.fence ORDER BY shard FOR UPDATE;
        UPDATE baton.fence SET epoch = epoch + 1
        WHERE offered > (SELECT level FROM baton.reading_level WHERE id = 1);
        -- Without a fence row no update has done it.
        UPDATE baton.reading_level SET level = offered WHERE level < offered;
    END IF;
    RETURN NULL;
END
$$;

-- Which of its words are new, only the release knows that checks a definition: so every new version counts.
CREATE TRIGGER definition_requires_level AFTER INSERT ON baton.definition
    FOR EACH ROW EXECUTE FUNCTION baton.require_level();

-- Level 1 would begin a saga at once that is to begin later.
CREATE TRIGGER delayed_start_requires_level AFTER INSERT ON baton.saga
    FOR EACH ROW WHEN (NEW.start_at IS NOT NULL) EXECUTE FUNCTION baton.require_level();
