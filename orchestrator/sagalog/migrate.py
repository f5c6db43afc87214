"""Brings the schema of the saga log to this release's version, safely when several replicas start at once."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import psycopg

from orchestrator.errors import BatonError
from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike_in_thread

# Any number does, as long as all releases of Baton use the same one: it names the lock that migrations take.
ADVISORY_LOCK = 0x6261746F6E


class SchemaTooNew(BatonError):
    """The database was migrated by a later release of Baton; run that release or a later one."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of SQL. Migrations only add."""

    number: int
    name: str
    sql: str


def migrations() -> tuple[Migration, ...]:
    """All migrations of this release in the order of their numbers."""
    folder = files(__package__) / "migrations"
    found = []
    for file in folder.iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.number))


def migrate(dsn: str) -> list[Migration]:
    """Run every migration that the database at `dsn` has not seen, and return those that ran.

    All of it is one transaction under an advisory lock: a second replica waits and then finds nothing to do.
    Raises SchemaTooNew, and psycopg.Error as it comes.
    """
    if ARMED:
        strike_in_thread(effects.MIGRATE.before)
    with psycopg.connect(
        dsn, connect_timeout=10, application_name="baton-migrate", target_session_attrs="read-write"
    ) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        connection.execute("CREATE SCHEMA IF NOT EXISTS baton")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS baton.migration ("
            "number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        applied = {row[0] for row in connection.execute("SELECT number FROM baton.migration")}
        known = migrations()
        if unknown := applied - {migration.number for migration in known}:
            raise SchemaTooNew(
                f"the database has migration {max(unknown)}, this release of Baton ends at {known[-1].number}: "
                "run the release that made it, or a later one"
            )
        pending = [migration for migration in known if migration.number not in applied]
        for migration in pending:
            connection.execute(migration.sql.encode())
            connection.execute(
                "INSERT INTO baton.migration (number, name) VALUES (%s, %s)", [migration.number, migration.name]
            )
        if ARMED:
            strike_in_thread(effects.MIGRATE.inside)
    if ARMED:
        strike_in_thread(effects.MIGRATE.after)
    return pending
