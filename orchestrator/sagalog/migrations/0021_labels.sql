-- One row for each label of each saga, in the order in which lists are read: a search by label walks the index of its
-- label from the newest saga on and stops when the page is full, however many sagas bear the label, and however few.
-- (A GIN index gives all that match, unsorted; and the planner guesses how many these are.) Unlabelled sagas pay
-- nothing. A saga's labels never change.

CREATE TABLE baton.saga_label (
    key     text COLLATE "C" NOT NULL,
    value   text COLLATE "C" NOT NULL,
    saga_id uuid NOT NULL,
    PRIMARY KEY (key, value, saga_id)
);

-- For a search by the name of a label alone. It is on an expression so that no plan takes it for a search by name and
-- value: where a label has many values, that would pass over all others.
CREATE INDEX saga_label_by_key ON baton.saga_label ((key || ''), saga_id);

CREATE FUNCTION baton.labels_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO baton.saga_label (key, value, saga_id)
    SELECT l.key, l.value, n.id
    FROM new_rows AS n, jsonb_each_text(CASE jsonb_typeof(n.labels) WHEN 'object' THEN n.labels ELSE '{}' END) AS l
    WHERE n.labels <> '{}';
    RETURN NULL;
END
$$;

CREATE FUNCTION baton.labels_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM baton.saga_label AS s
    USING (
        SELECT l.key, l.value, o.id
        FROM old_rows AS o, jsonb_each_text(CASE jsonb_typeof(o.labels) WHEN 'object' THEN o.labels ELSE '{}' END) AS l
        WHERE o.labels <> '{}'
    ) AS gone
    WHERE s.key = gone.key AND s.value = gone.value AND s.saga_id = gone.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER labels_inserted AFTER INSERT ON baton.saga
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION baton.labels_inserted();
CREATE TRIGGER labels_deleted AFTER DELETE ON baton.saga
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION baton.labels_deleted();

INSERT INTO baton.saga_label (key, value, saga_id)
SELECT l.key, l.value, s.id
FROM baton.saga AS s, jsonb_each_text(CASE jsonb_typeof(s.labels) WHEN 'object' THEN s.labels ELSE '{}' END) AS l
WHERE s.labels <> '{}';

-- Its queries are served by the table above.
DROP INDEX baton.saga_by_label;
