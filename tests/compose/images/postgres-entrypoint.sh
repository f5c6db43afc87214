#!/usr/bin/env bash
# Does what the official image's entrypoint does with POSTGRES_USER, POSTGRES_PASSWORD_FILE, POSTGRES_DB, PGDATA and
# /docker-entrypoint-initdb.d/*.sql, the first time; then becomes the server.
set -euo pipefail

if [[ $(id -u) == 0 ]]; then
    # Only root may read it.
    POSTGRES_PASSWORD="$(< "$POSTGRES_PASSWORD_FILE")"
    export POSTGRES_PASSWORD
    mkdir -p "$PGDATA"
    chown postgres:postgres "$PGDATA"
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [[ ! -s "$PGDATA/PG_VERSION" ]]; then
    user="${POSTGRES_USER:-postgres}"
    database="${POSTGRES_DB:-$user}"
    initdb --username="$user" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD:?}") --auth-local=trust \
        --auth-host=scram-sha-256 --encoding=UTF8
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    # Only through the socket until it is set up: a health check over TCP must not see this server.
    pg_ctl -w -o "-c listen_addresses=''" start
    run=(psql --no-psqlrc -v ON_ERROR_STOP=1 --username="$user")
    [[ $database == postgres ]] || "${run[@]}" --dbname=postgres -c "CREATE DATABASE \"$database\""
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [[ ! -e $file ]] || "${run[@]}" --dbname="$database" --file="$file"
    done
    pg_ctl -w -m fast stop
fi
exec "$@" -c listen_addresses='*'
