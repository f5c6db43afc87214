"""A saga log that fails over: the pair itself, the host that takes writes, and what is dropped and found on the way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.standby import PostgresPair
from orchestrator.errors import LogUnavailable, Resign
from orchestrator.failpoints import effects
from orchestrator.saga.commands import Ready, Succeeded
from orchestrator.saga.machine import decide
from orchestrator.sagalog.connection import connect, execute
from orchestrator.sagalog.intake import Intake, IntakeSettings
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.postgres import PostgresSagaLog
from orchestrator.sagalog.queries import Statement
from orchestrator.sagalog.records import NewSaga
from orchestrator.sagalog.term import PostgresTermLog
from orchestrator.telemetry import Metrics
from participants.database import Connection, Database
from participants.settings import ParticipantSettings
from tests.unit.sagas import moment

from .test_saga_log_faults import begin, end, insert, log_rows, saga, settings

_NO_FSYNC = {"fsync": "off"}
_SELECT = Statement(effects.CHECK, b"SELECT 1")


@pytest.fixture(scope="module")
def synchronous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresPair]:
    with PostgresPair(tmp_path_factory.mktemp("pair"), settings=_NO_FSYNC) as pair:
        yield pair


@pytest.fixture
def pair(synchronous: PostgresPair) -> Iterator[PostgresPair]:
    """The module's pair with a fresh saga log, whole again after the test."""
    synchronous.primary.drop_database("baton")
    migrate(synchronous.create_database("baton"))
    yield synchronous
    synchronous.let_go()
    synchronous.rejoin()


@pytest.fixture
async def log(pair: PostgresPair) -> AsyncIterator[PostgresSagaLog]:
    saga_log = PostgresSagaLog(settings(pair.dsn("baton")), Metrics("test", "r1"))
    yield saga_log
    await saga_log.close()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A host that swallows every packet as far as a client can see: its queue of connections is full."""
    (port,) = free_ports(1)
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield f"127.0.0.1:{port}"
    release_ports([port])


async def write(term: PostgresTermLog, number: int) -> None:
    running, events = decide(saga(number), Ready(), moment(term.epoch))
    await term.append(running, events)
    done, events = decide(running, Succeeded({}), moment(term.epoch))
    await term.append(done, events)


async def start(dsn: str, intake_id: str, request_id: str, timeout_s: float = 2.0) -> tuple[UUID, bool]:
    intake = Intake(IntakeSettings(dsn, intake_id, 0, timeout_s, 100), Metrics("test", intake_id), lambda: None)
    running = asyncio.create_task(intake.run())
    try:
        started = await intake.start(NewSaga("test", 1, "{}", "{}", request_id, b"hash"))
        return started.saga_id, started.existing
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_what_was_committed_is_there_after_the_primary_died_and_the_old_one_follows(pair: PostgresPair) -> None:
    insert(pair.dsn("baton"), 1)
    former = pair.primary
    former.crash()
    pair.promote()
    assert pair.primary is not former
    insert(pair.dsn("baton"), 2)
    pair.rejoin()
    with psycopg.connect(former.dsn("baton"), autocommit=True) as standby:
        assert standby.execute("SELECT count(*) FROM baton.saga").fetchone() == (2,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            standby.execute("DELETE FROM baton.saga")


async def test_the_host_that_takes_writes_is_found_behind_a_black_hole_and_a_standby(
    pair: PostgresPair, black_hole: str
) -> None:
    user, _, _ = pair.primary.dsn().rpartition("@")
    hosts = [black_hole, f"127.0.0.1:{pair.standby.port}", f"127.0.0.1:{pair.primary.port}"]
    began_s = time.monotonic()
    connection = await connect(f"{user}@{','.join(hosts)}/baton", "test", 20.0)
    try:
        assert connection.info.port == pair.primary.port
        # The black hole alone would take all of it.
        assert time.monotonic() - began_s < 10.0
    finally:
        await connection.close()


async def test_hosts_none_of_which_takes_writes_are_given_up_in_time(pair: PostgresPair, black_hole: str) -> None:
    user, _, _ = pair.primary.dsn().rpartition("@")
    began_s = time.monotonic()
    # By its own clock, and not by that of libpq, which knows no second less than two and counts them for each host.
    with pytest.raises(LogUnavailable, match=r"no answer within 1\.0 s"):
        await connect(f"{user}@127.0.0.1:{pair.standby.port},{black_hole}/baton", "test", 1.0)
    assert time.monotonic() - began_s < 10.0


async def test_a_connection_is_left_when_its_server_turns_read_only(pair: PostgresPair) -> None:
    connection = await connect(pair.dsn("baton"), "test", 20.0)
    try:
        pair.turn_read_only()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await execute(connection, _SELECT, 20.0)
    finally:
        await connection.close()
        pair.promote()


async def test_readers_and_a_term_go_on_at_the_new_primary_without_an_error(
    pair: PostgresPair, log: PostgresSagaLog
) -> None:
    dsn = pair.dsn("baton")
    insert(dsn, 1, 2)
    term, writing = await begin(log, 1)
    pool = Pool(dsn, "test", 2, 20.0, Metrics("test", "r1"))
    await write(term, 1)
    await pool.fetch(_SELECT)
    pair.turn_read_only()
    pair.promote()
    await write(term, 2)
    assert await pool.fetch(Statement(effects.CHECK, b"SELECT inet_server_port()")) == [(pair.primary.port,)]
    await term.prove()
    await pool.close()
    await end(term, writing)
    assert len(log_rows(dsn)) == 2 * len(log_rows_of(dsn, 1))


def log_rows_of(dsn: str, number: int) -> list[tuple[int]]:
    with psycopg.connect(dsn) as connection:
        query = "SELECT sequence FROM baton.step_log WHERE saga_id = %s"
        return connection.execute(query, [UUID(int=number)]).fetchall()


async def test_a_standby_replica_raises_the_epoch_on_the_new_primary(pair: PostgresPair, log: PostgresSagaLog) -> None:
    assert await log.reachable()
    pair.primary.crash()
    pair.promote()
    assert await log.reachable()
    term, writing = await begin(log, 5)
    assert term.epoch == 5
    await end(term, writing)


async def test_a_term_ends_when_postgres_has_lost_what_it_had_committed(tmp_path: Path) -> None:
    with PostgresPair(tmp_path, synchronous=False, settings=_NO_FSYNC) as pair:
        dsn = pair.create_database("baton")
        migrate(dsn)
        insert(dsn, 1, 2)
        log = PostgresSagaLog(settings(dsn), Metrics("test", "r1"))
        term, writing = await begin(log, 1)
        await write(term, 1)
        # A later commit of another session that is there tells that the earlier ones are.
        pair.rejoin()
        pair.hold_back()
        await write(term, 2)
        pair.primary.crash()
        pair.promote()
        with pytest.raises(Resign, match="went back in time"):
            await asyncio.gather(term.prove(), writing)
        await end(term, writing)
        successor, writing = await begin(log, 2)
        assert [s.id for page in [p async for p in successor.unfinished(10, 10)] for s in page] == [UUID(int=1)]
        assert log_rows_of(dsn, 2) == []
        await end(successor, writing)
        await log.close()


async def test_a_repeated_start_is_not_acknowledged_before_the_standby_has_it(pair: PostgresPair) -> None:
    dsn = pair.dsn("baton")
    pair.hold_back()
    with pytest.raises(LogUnavailable):
        await start(dsn, "one", "r1")
    # The backend that waits for the standby is ended, as by a crash: its commit is there, at the primary alone.
    with psycopg.connect(pair.primary.dsn("baton"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'baton-intake%%'"
        )
        while connection.execute("SELECT count(*) FROM baton.saga").fetchone() != (1,):
            await asyncio.sleep(0.01)
    with pytest.raises(LogUnavailable):
        await start(dsn, "two", "r1")
    pair.let_go()
    _, existing = await start(dsn, "three", "r1", timeout_s=20.0)
    assert existing


@contextlib.asynccontextmanager
async def deserted(pair: PostgresPair) -> AsyncIterator[Database]:
    """A participant's database whose primary has turned read-only, and has said so to one call."""
    database = Database(ParticipantSettings(dsn=pair.create_database("shop")), "inventory")
    await database.open([])
    try:
        async with database.connection() as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS stock (pieces integer)")
        pair.turn_read_only()
        pair.promote()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await stock_up(database)
        yield database
    finally:
        await database.close()


async def stock_up(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("INSERT INTO stock VALUES (1)")


async def test_a_participant_leaves_a_primary_that_has_turned_read_only(pair: PostgresPair) -> None:
    async with deserted(pair) as database:
        await stock_up(database)


async def test_a_connection_that_is_made_while_the_primary_turns_read_only_is_not_used(
    pair: PostgresPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned, configured = asyncio.Event(), count()
    configure = Database._configure

    async def slowly(self: Database, connection: Connection) -> None:
        if next(configured) > 0:
            await turned.wait()
        await configure(self, connection)

    monkeypatch.setattr(Database, "_configure", slowly)
    async with deserted(pair) as database:
        turned.set()
        for _ in range(3):
            await stock_up(database)
