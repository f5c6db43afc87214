-- Certificates of participants. Nothing here is fenced: any replica may run it at any time.

-- name: insert_certificate
-- The same certificate again changes nothing.
INSERT INTO baton.certificate (participant, action, compensation, at, contract_hash, safe, content)
VALUES (%(participant)s, %(action)s, %(compensation)s, %(at)s, %(contract_hash)s, %(safe)s, %(content)s)
ON CONFLICT DO NOTHING
RETURNING true;

-- name: certificates
-- The newest of each pair at each address; those of one address, or all.
SELECT content FROM (
    SELECT DISTINCT ON (participant, action, compensation) content, at
    FROM baton.certificate
    WHERE %(participant)s::text IS NULL OR participant = %(participant)s::text
    ORDER BY participant, action, compensation, at DESC
) AS newest
ORDER BY at DESC
LIMIT %(limit)s;
