-- Which definitions are retired. No fence: any replica may write this at any time, and no saga depends on it.

-- name: retirements
SELECT name, version, reason, by, at
FROM baton.retirement
ORDER BY name, version
LIMIT %(limit)s;

-- name: retire
-- Asked again, the first reason stays, and is what comes back.
WITH inserted AS (
    INSERT INTO baton.retirement (name, version, reason, by)
    VALUES (%(name)s, %(version)s, %(reason)s, %(by)s)
    ON CONFLICT DO NOTHING
    RETURNING name, version, reason, by, at
)
SELECT name, version, reason, by, at, false FROM inserted
UNION ALL
SELECT name, version, reason, by, at, true
FROM baton.retirement
WHERE name = %(name)s AND version = %(version)s::integer;

-- name: started
-- Whether a request id has started a saga already: a repeated start is answered as it was, retired or not.
SELECT EXISTS (SELECT FROM baton.saga WHERE request_id = %(request_id)s);

-- name: reinstate
DELETE FROM baton.retirement
WHERE name = %(name)s AND version = %(version)s::integer
RETURNING name;
