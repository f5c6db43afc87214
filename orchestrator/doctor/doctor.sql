-- What `baton doctor` asks Postgres. Nothing here needs more rights than a replica has; what a role may not see is
-- counted as not there.

-- name: server
SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(),
    current_setting('default_transaction_read_only')::boolean, current_user, current_database(),
    extract(epoch FROM clock_timestamp())::float8, current_setting('fsync')::boolean,
    current_setting('full_page_writes')::boolean, current_setting('synchronous_commit'),
    current_setting('synchronous_standby_names');

-- name: room
-- Connections that are left for an ordinary role, and what keeps the disk filling.
SELECT current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
        - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::integer,
    current_setting('max_connections')::integer,
    pg_database_size(current_database()),
    (SELECT max(age(datfrozenxid)) FROM pg_database),
    (SELECT coalesce(max(pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)), 0)
     FROM pg_replication_slots WHERE NOT active)::bigint,
    (SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) FROM pg_stat_archiver),
    (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)::float8
     FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
        AND pid <> pg_backend_pid());

-- name: standbys
SELECT count(*) FILTER (WHERE state = 'streaming'), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum'))
FROM pg_stat_replication;

-- name: schema
-- By the catalogue: to_regclass refuses a role that may not use the schema.
SELECT EXISTS (
        SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'baton' AND c.relname = 'migration'
    ), has_database_privilege(current_database(), 'CREATE'),
    CASE WHEN to_regnamespace('baton') IS NULL THEN true ELSE has_schema_privilege('baton', 'USAGE') END;

-- name: migrations
SELECT number FROM baton.migration ORDER BY number;

-- name: rights
-- What a replica does with the tables of the log, and this role may not.
SELECT c.relname || ': ' || string_agg(p.privilege, ', ' ORDER BY p.privilege)
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE')) AS p (privilege)
WHERE n.nspname = 'baton' AND c.relkind IN ('r', 'p') AND NOT has_table_privilege(c.oid, p.privilege)
GROUP BY c.relname
ORDER BY c.relname;

-- name: functions
-- pg_logical_emit_message: by it a start waits for the synchronous standby. It may be called by all unless revoked.
SELECT bool_and(has_function_privilege(oid, 'EXECUTE')) FROM pg_proc WHERE proname = 'pg_logical_emit_message';

-- name: fence
SELECT epoch, holder FROM baton.fence WHERE shard = %(shard)s;

-- name: write
-- A write without content.
SELECT pg_logical_emit_message(true, 'baton', '');
