-- A tombstone that a question has left keeps out all attempts up to the one that asked; the orchestrator, who has heard
-- that nothing was done, may try again. NULL: the tombstone of a compensation, which keeps out everything.
ALTER TABLE barrier ADD COLUMN asked_attempt integer;
