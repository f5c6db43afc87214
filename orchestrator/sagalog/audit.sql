-- The audit log: what operators have done. Any replica writes it, at any time; it is not fenced, since it tells of what
-- has happened and decides nothing.

-- name: write
-- Rows that are there already are left: the batch is sent again when its outcome is unknown.
INSERT INTO baton.audit_log (id, at, replica, caller, recognized_by, peer, action, target, outcome, message)
SELECT id, at, replica, caller, recognized_by, peer, action, target, outcome, message
FROM jsonb_to_recordset(%(entries)s::jsonb) AS entry (
    id uuid, at timestamptz, replica text, caller text, recognized_by text, peer text, action text, target jsonb,
    outcome text, message text
)
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: entries
-- The newest first.
SELECT id, at, replica, caller, recognized_by, peer, action, target::text, outcome, message
FROM baton.audit_log
WHERE (%(before)s::uuid IS NULL OR id < %(before)s)
  AND (%(caller)s::text IS NULL OR caller = %(caller)s)
  AND (%(action)s::text IS NULL OR action = %(action)s)
ORDER BY id DESC
LIMIT %(rows)s
