"""Retention on a real log: what is removed is in the archive, whatever fails between, and nothing else is touched."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.errors import Fenced, LogUnavailable, Retryable
from orchestrator.keeping.archive import Archive
from orchestrator.keeping.forgetting import Forgetting
from orchestrator.keeping.port import NobodyKeeps, Purged, Watermark
from orchestrator.keeping.retention import Retention, RetentionSettings
from orchestrator.keeping.upkeep import Upkeep
from orchestrator.saga.ids import saga_id
from orchestrator.saga.model import Epoch, SagaId
from orchestrator.sagalog.events import UnseenEvents
from orchestrator.sagalog.level import LEVEL_OPTION
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.port import Claim
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.sagalog.term import PostgresTermLog
from orchestrator.sagalog.upkeep import PostgresUpkeepLog, UpkeepLogSettings
from orchestrator.sagalog.upkeep_port import FinishedSaga
from orchestrator.telemetry import Metrics

AFTER_S = 3600.0


class Failing(PostgresUpkeepLog):
    """The upkeep's log; `fails` makes a removal fail before it is sent, or after it is committed."""

    fails: str = ""

    async def remove(self, sagas: Sequence[FinishedSaga], after_s: float, epoch: Epoch) -> list[SagaId]:
        if self.fails == "before":
            raise LogUnavailable("the test says so")
        removed = await super().remove(sagas, after_s, epoch)
        if self.fails == "after":
            raise LogUnavailable("the test says so")
        return removed


class Keeping(NobodyKeeps):
    """Keeps what it is told to keep, and knows what it was asked for."""

    ids: frozenset[SagaId] = frozenset()

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def kept(self, sagas: Sequence[SagaId]) -> Collection[SagaId]:
        self.asked += [str(saga) for saga in sagas]
        return self.ids


@dataclass
class World:
    """A saga log under a term, and a retention that archives into `folder`."""

    dsn: str
    folder: Path
    term: PostgresTermLog
    log: Failing
    metrics: Metrics
    keepers: Keeping = field(default_factory=Keeping)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def retention(self, batch: int = 3, archive: bool = True, again_max_s: float = 60.0) -> Retention:
        made = Archive(self.folder, "test") if archive else None
        return Retention(RetentionSettings(AFTER_S, batch, again_max_s), self.log, made, self.keepers, self.metrics)

    def insert(self, count: int, state: str = "COMPLETED", ended_s_ago: float = 2 * AFTER_S) -> set[str]:
        made = set()
        with psycopg.connect(self.dsn) as connection:
            for _ in range(count):
                identity = saga_id(round((time.time() - ended_s_ago) * 1000), next(self.numbers))
                made.add(str(identity))
                connection.execute(
                    "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, sequence,"
                    " input, finished_at)"
                    " VALUES (%s, 0, %s, '', 'order', 1, %s, 1, '{\"n\": 1.10}', now() - %s * interval '1 s')",
                    [identity, str(identity), state, ended_s_ago],
                )
                connection.execute(
                    "INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, ordered)"
                    " VALUES (%s, 1, 'pay', 1, 'completed', 1, '{\"by\": \"ann\"}')",
                    [identity],
                )
        return made

    def kept(self) -> set[str]:
        with psycopg.connect(self.dsn) as connection:
            return {str(row[0]) for row in connection.execute("SELECT id FROM baton.saga")}

    def archived(self) -> list[str]:
        """The ids in the archive, each as often as it is there. Every line must be whole."""
        return [line["saga_id"] for line in self.archive_lines()]

    def archive_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for path in sorted(self.folder.glob("*")) for line in path.open()]


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    migrate(database)
    with psycopg.connect(database) as connection:
        # Rows of the log are of an epoch; the test's are of none in particular.
        connection.execute("ALTER TABLE baton.step_log ALTER epoch SET DEFAULT 1")
    metrics = Metrics("test", "r1")
    pool = Pool(database, "test", 3, 10.0, metrics)
    saga_log = PostgresSagaLog(LogSettings(database, "r1", 0, 10.0, 5.0, 10.0, 4000), metrics)
    term = await saga_log.raise_epoch(Claim(0, "r1", "c", 1, "vacant"))
    assert term is not None
    log = Failing(UpkeepLogSettings(database, "r1", 0, 10.0, 5.0), pool)
    yield World(database, tmp_path / "archive", term, log, metrics)
    await log.close()
    await term.close()
    await saga_log.close()
    await pool.close()


async def test_what_is_due_goes_and_is_in_the_archive_with_its_history(world: World) -> None:
    due = world.insert(5) | world.insert(3, "COMPENSATED")
    stays = world.insert(2, "RUNNING") | world.insert(2, "FAILED") | world.insert(2, ended_s_ago=AFTER_S / 2)
    assert await world.retention().sweep(world.term) == len(due)
    assert world.kept() == stays
    assert sorted(world.archived()) == sorted(due)
    for line in world.archive_lines():
        assert (line["state"] in ("COMPLETED", "COMPENSATED"), line["input"]) == (True, {"n": 1.10})
        assert [(row["step"], row["status"]) for row in line["history"]] == [("pay", "completed")]
        assert line["history"][0]["ordered"] == {"by": "ann"}
    assert await world.retention().sweep(world.term) == 0
    assert world.metrics.registry.get_sample_value("baton_sagas_removed_total") == len(due)


async def test_without_an_archive_it_is_gone(world: World) -> None:
    world.insert(4)
    assert await world.retention(archive=False).sweep(world.term) == 4
    assert (world.kept(), world.folder.exists()) == (set(), False)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_failure_around_the_removal_loses_nothing(world: World, moment: str) -> None:
    due = world.insert(7)
    world.log.fails = moment
    for _ in range(2):
        with pytest.raises(LogUnavailable):
            await world.retention().sweep(world.term)
        assert due == world.kept() | set(world.archived())
    world.log.fails = ""
    await world.retention().sweep(world.term)
    assert world.kept() == set()
    assert set(world.archived()) == due


async def test_the_reader_of_the_guide_has_every_saga_once(world: World) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "keeping.md").read_text()
    names: dict[str, Any] = {}
    exec(guide.split("```python\n")[1].split("```")[0], names)
    due = world.insert(4)
    world.log.fails = "before"
    with pytest.raises(LogUnavailable):
        await world.retention().sweep(world.term)
    world.log.fails = ""
    await world.retention().sweep(world.term)
    with (next(world.folder.iterdir())).open("a") as file:
        file.write('{"saga_id": "cut')
    sagas = names["archived"](world.folder)
    assert set(sagas) == due
    assert all(saga["history"] for saga in sagas.values())


async def test_a_disk_that_is_full_keeps_everything_in_the_log(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    due = world.insert(4)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    retention = world.retention()
    with monkeypatch.context() as patch:
        patch.setattr(Archive, "sync", full)
        with pytest.raises(OSError, match="No space"):
            await retention.sweep(world.term)
    assert world.kept() == due
    assert await retention.sweep(world.term) == len(due)
    assert set(world.archived()) == due


async def test_a_saga_that_somebody_needs_stays(world: World) -> None:
    due = world.insert(4)
    needed = next(iter(due))
    world.keepers.ids = frozenset(SagaId(row) for row in ids(world) if str(row) == needed)
    await world.retention().sweep(world.term)
    assert world.kept() == {needed}
    assert needed not in world.archived()


async def test_what_the_relay_has_not_published_stays_until_it_has(world: World) -> None:
    first, second = world.insert(3), world.insert(3)
    pool = Pool(world.dsn, "test", 2, 5.0, world.metrics)
    retention = Retention(
        RetentionSettings(AFTER_S, 2), world.log, None, UnseenEvents(pool, "baton.relay"), world.metrics
    )
    await retention.sweep(world.term)
    assert world.kept() == first | second

    def published(saga: str) -> None:
        with psycopg.connect(world.dsn) as connection:
            connection.execute("DELETE FROM baton.event_consumer")
            connection.execute(
                "INSERT INTO baton.event_consumer (name, epoch, log_position)"
                " SELECT 'baton.relay', epoch, max(log_position) FROM baton.step_log WHERE saga_id = %s GROUP BY epoch",
                [saga],
            )

    published(max(first))
    await retention.sweep(world.term)
    assert world.kept() == second
    published(max(second))
    await retention.sweep(world.term)
    assert world.kept() == set()
    await pool.close()


def ids(world: World) -> list[Any]:
    with psycopg.connect(world.dsn) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM baton.saga")]


async def test_under_a_later_epoch_nothing_goes_and_the_term_ends(world: World) -> None:
    due = world.insert(4)
    with psycopg.connect(world.dsn, options=LEVEL_OPTION) as connection:
        connection.execute("UPDATE baton.fence SET epoch = epoch + 1")
    with pytest.raises(Fenced):
        await world.retention().sweep(world.term)
    assert world.kept() == due
    upkeep = Upkeep(world.log, world.retention(), None, 0.01, world.metrics)
    with pytest.raises(ExceptionGroup) as ended:
        await asyncio.wait_for(upkeep.run(world.term), 30)
    assert ended.group_contains(Fenced)


async def test_a_term_whose_last_row_was_removed_does_not_take_postgres_for_gone_back(world: World) -> None:
    (gone,) = world.insert(1)
    world.term._last_committed = (SagaId(ids(world)[0]), 1)
    await world.retention().sweep(world.term)
    assert str(gone) not in world.kept()
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'baton-term-0-r1'"
        )
    await world.term.prove()


async def test_a_duty_that_fails_is_done_again_and_counted(world: World) -> None:
    due = world.insert(4)
    failed: Callable[[], float | None] = lambda: world.metrics.registry.get_sample_value(  # noqa: E731
        "baton_upkeep_failures_total", {"duty": "retention"}
    )
    world.log.fails = "before"
    upkeep = asyncio.create_task(Upkeep(world.log, world.retention(), None, 0.01, world.metrics).run(world.term))
    try:
        async with asyncio.timeout(30):
            while not (failed() or 0) >= 2:
                await asyncio.sleep(0.01)
            assert world.kept() == due
            world.log.fails = ""
            while world.kept():
                await asyncio.sleep(0.01)
    finally:
        upkeep.cancel()
        await asyncio.gather(upkeep, return_exceptions=True)
    assert set(world.archived()) == due


class FakeBarriers:
    """Participants by address: each answers with what is left of its list, or raises it; None offers no purge."""

    def __init__(self, **answers: list[Purged | Retryable | None]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Watermark]] = []

    async def purge(self, service: str, watermark: Watermark, timeout_s: float) -> Purged | None:
        self.asked.append((service, watermark))
        answer = self.answers[service].pop(0)
        if isinstance(answer, Retryable):
            raise answer
        return answer


async def test_every_participant_hears_of_the_watermark_until_it_is_done(world: World) -> None:
    world.insert(1, "FAILED")
    barriers = FakeBarriers(
        a=[Purged(5, False), Purged(2, True)], b=[None], c=[Retryable("away"), Purged(0, True)], d=[]
    )
    forgetting = Forgetting(world.log, barriers, lambda: ("a", "b", "c", "d"), 0, AFTER_S, world.metrics)
    await forgetting.round(world.term)
    assert barriers.asked == [], "nothing is known to be over yet"
    with psycopg.connect(world.dsn) as connection:
        connection.execute("UPDATE baton.watermark SET next_at = next_at - interval '2 hours'")
        # One that is paused is not called.
        connection.execute(
            "INSERT INTO baton.pause (id, shard, kind, name, paused_by, reason)"
            " VALUES (gen_random_uuid(), 0, 'participant', 'd', 'ann', 'moving house')"
        )
    for _ in range(3):
        await forgetting.round(world.term)
    assert [service for service, _ in barriers.asked] == ["a", "a", "b", "c", "c"]
    with psycopg.connect(world.dsn) as connection:
        connection.execute("UPDATE baton.pause SET resumed_at = clock_timestamp()")
    barriers.answers["d"].append(Purged(1, True))
    await forgetting.round(world.term)
    assert [service for service, _ in barriers.asked][5:] == ["d"]
    assert {watermark for _, watermark in barriers.asked} == {Watermark(ids(world)[0], 0, world.term.epoch)}
    purged = world.metrics.registry.get_sample_value("baton_barrier_rows_purged_total", {"participant": "a"})
    assert purged == 7
