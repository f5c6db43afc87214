-- Every row of the step log is an event, and has a place in one order: by epoch, and within it by log_position.
--
-- Rows become visible in this order, so whoever has read up to a place has missed nothing before it:
-- * The leader writes one statement at a time, and takes numbers while it holds the fence row. The next statement takes
--   its own after the outcome of this one is known.
-- * A statement whose connection was given up is sent again as it is. Its rows meet those of the first by their keys:
--   the repetition waits until the first has ended, or the first, when it comes late, finds all rows there and adds none.
-- * A raise of the epoch waits for writers that hold the fence row, and who comes later writes nothing. So all rows of an
--   epoch are visible before the first of the next one.
-- * Numbers that were taken and not used leave gaps, which mean nothing.
-- * Should Postgres lose committed rows (a standby that lagged was promoted), numbers come a second time, but under a
--   higher epoch: they are behind every place that anybody has seen.
-- Only statements under the fence may insert here, and only one after the other.
--
-- Rows that were there before have no number and are no events. A release that does not know the column writes events all
-- the same. CACHE 1: a session must not keep numbers for later.
CREATE SEQUENCE IF NOT EXISTS baton.step_log_position AS bigint CACHE 1;
ALTER TABLE baton.step_log ADD COLUMN IF NOT EXISTS log_position bigint;
ALTER TABLE baton.step_log ALTER COLUMN log_position SET DEFAULT nextval('baton.step_log_position');

-- On a very large log this may be made ahead, CONCURRENTLY, with the two statements above.
CREATE INDEX IF NOT EXISTS step_log_events ON baton.step_log (epoch, log_position) WHERE log_position IS NOT NULL;
