"""What the answers of Postgres mean for Baton. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.doctor.finding import Area, Finding, failed, ok, warning

_OLDEST = 15
_ENDS_TRANSACTIONS = 17
_SKEW_WARNING_S = 1.0
_SKEW_MAX_S = 60.0
# Beside the pool: the writer, the reader and the listener of a term, a standby's, the intake, the gauge.
_CONNECTIONS_BESIDE = 8
_WAL_KEPT_MAX_BYTES = 10_000_000_000
# Postgres stops taking writes at about 2.1 billion.
_FREEZE_AGE_MAX = 1_000_000_000
_TRANSACTION_MAX_S = 3600.0

P = Area.POSTGRES


@dataclass(frozen=True, slots=True)
class Server:
    """A server, as it describes itself. `skew_s` is its clock minus ours, known to half of `round_trip_s`."""

    version: int
    in_recovery: bool
    read_only: bool
    user: str
    database: str
    skew_s: float
    round_trip_s: float
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    synchronous_standbys: str


@dataclass(frozen=True, slots=True)
class Room:
    """What is left."""

    connections_left: int
    connections_max: int
    database_bytes: int
    freeze_age: int
    wal_kept_bytes: int
    archiver_fails: bool
    oldest_transaction_s: float


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of the saga log: migrations `applied` against those that this release `ships`; what is not allowed."""

    applied: tuple[int, ...]
    ships: tuple[int, ...]
    may_create: bool
    may_use: bool
    missing_rights: tuple[str, ...]
    may_emit: bool


def judge_server(server: Server) -> Iterator[Finding]:
    """Its version, whether it takes writes, its clock, and whether it keeps what it has promised."""
    major = server.version // 10_000
    if major < _OLDEST:
        yield failed(P, f"Postgres {major} is too old", f"upgrade it to {_OLDEST} or newer")
    elif major < _ENDS_TRANSACTIONS:
        text = f"Postgres {major} ends no transaction that hangs (transaction_timeout is of {_ENDS_TRANSACTIONS})"
        yield warning(P, text, f"upgrade to {_ENDS_TRANSACTIONS} or newer when you can")
    else:
        yield ok(P, f"Postgres {major}, database {server.database!r}, as {server.user!r}")
    if server.in_recovery or server.read_only:
        why = "it is a standby" if server.in_recovery else "default_transaction_read_only is on"
        yield failed(
            P, f"Postgres takes no writes: {why}", "name the primary in BATON_DSN, or all hosts; or promote it"
        )
    yield _clock(server)
    if not server.fsync or not server.full_page_writes:
        name = "full_page_writes" if server.fsync else "fsync"
        yield failed(P, f"{name} is off: a crash of the machine loses or breaks sagas", f"set {name} = on, and restart")
    if server.synchronous_commit == "off":
        text = "synchronous_commit is off: a crash loses sagas that were acknowledged"
        yield failed(P, text, "set synchronous_commit = on for this database")


def _clock(server: Server) -> Finding:
    skew_s = max(0.0, abs(server.skew_s) - server.round_trip_s / 2)
    text = f"the clocks of Postgres and of this machine differ by {abs(server.skew_s):.1f} s"
    if skew_s > _SKEW_MAX_S:
        return failed(P, text, "set both by NTP: timers and ages are off by as much (nothing else depends on clocks)")
    if skew_s > _SKEW_WARNING_S:
        return warning(P, text, "set both by NTP")
    return ok(P, f"the clocks of Postgres and of this machine agree to {max(abs(server.skew_s), 0.001):.3f} s")


def judge_standbys(server: Server, streaming: int, synchronous: int) -> Iterator[Finding]:
    """Whether a failover would lose what was acknowledged, and whether commits hang for lack of a standby."""
    if server.in_recovery:
        return
    if server.synchronous_standbys and not synchronous:
        text = (
            f"synchronous_standby_names is {server.synchronous_standbys!r}, and no such standby streams: commits hang"
        )
        yield failed(P, text, "bring the standby back, or take it out of synchronous_standby_names")
    elif streaming and not synchronous:
        text = f"{streaming} standbys follow, none of them synchronously: a failover loses the last commits"
        yield warning(P, text, "set synchronous_standby_names (docs/postgres-failover.md)")
    elif synchronous:
        yield ok(P, f"{synchronous} synchronous standby(s) stream")


def judge_room(room: Room, replicas: int, pool_max: int) -> Iterator[Finding]:
    """Whether connections, disk and transaction numbers last."""
    wanted = pool_max + _CONNECTIONS_BESIDE
    if room.connections_left <= 0:
        yield failed(P, f"all {room.connections_max} connections are taken", "raise max_connections, or use fewer")
    elif room.connections_left < wanted:
        text = (
            f"{room.connections_left} of {room.connections_max} connections are left; one more replica takes {wanted}"
        )
        yield warning(P, text, f"raise max_connections: {replicas} replicas take {replicas * wanted} of them")
    else:
        yield ok(P, f"{room.connections_left} of {room.connections_max} connections are left")
    if room.wal_kept_bytes > _WAL_KEPT_MAX_BYTES:
        text = f"an inactive replication slot keeps {room.wal_kept_bytes / 1e9:.0f} GB of WAL: the disk will fill"
        yield failed(P, text, "bring its standby back, or drop the slot (pg_drop_replication_slot)")
    if room.archiver_fails:
        text = "the last WAL file could not be archived: WAL piles up until the disk is full"
        yield failed(P, text, "see Postgres' log for the archive_command, and mend it")
    if room.freeze_age > _FREEZE_AGE_MAX:
        text = f"the oldest transaction number is {room.freeze_age:,} old: Postgres stops at 2.1 billion"
        yield failed(P, text, "let autovacuum work: end old transactions, prepared ones and slots; then VACUUM FREEZE")
    if room.oldest_transaction_s > _TRANSACTION_MAX_S:
        text = (
            f"a transaction has been open for {room.oldest_transaction_s / 3600:.0f} h: nothing is vacuumed behind it"
        )
        yield warning(P, text, "find it in pg_stat_activity, and end it")
    yield ok(P, f"the database takes {room.database_bytes / 1e6:,.0f} MB")


def judge_schema(schema: Schema) -> Iterator[Finding]:
    """Whether the schema is of this release, and the role may do what a replica does."""
    if not schema.may_use:
        yield failed(P, "the role may not use the schema baton", "GRANT USAGE ON SCHEMA baton TO the role")
        return
    unknown = sorted(set(schema.applied) - set(schema.ships))
    missing = sorted(set(schema.ships) - set(schema.applied))
    if unknown:
        text = f"the database has migration {unknown[-1]}, this release ends at {schema.ships[-1]}"
        yield failed(P, text, "run the release that made it, or a later one")
    elif missing:
        text = f"{len(missing)} of {len(schema.ships)} migrations have not run (the first is {missing[0]:04})"
        advice = (
            "run `baton migrate`" if schema.may_create else "run `baton migrate` as a role with CREATE on the database"
        )
        yield failed(P, text, advice)
    else:
        yield ok(P, f"all {len(schema.ships)} migrations have run")
    if schema.missing_rights:
        text = f"the role may not do what a replica does, on {'; '.join(schema.missing_rights)}"
        yield failed(P, text, "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA baton TO the role")
    elif schema.applied:
        yield ok(P, "the role may read and write every table of the log")
    if not schema.may_emit:
        text = "the role may not call pg_logical_emit_message, by which a repeated start waits for its commit"
        yield failed(
            P, text, "GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text, boolean) TO the role"
        )
    if not schema.may_create and not missing:
        text = "the role may not create in the database: it cannot run later migrations"
        yield warning(P, text, "run `baton migrate` as another role before an upgrade, or GRANT CREATE ON DATABASE")
