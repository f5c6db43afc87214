-- Sagas that are run by a step of another one.

ALTER TABLE baton.saga ADD COLUMN parent uuid;
ALTER TABLE baton.saga ADD COLUMN parent_step text;
CREATE INDEX saga_children ON baton.saga (parent) WHERE parent IS NOT NULL;
