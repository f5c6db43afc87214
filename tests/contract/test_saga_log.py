"""One suite for the saga log in Postgres and for its model in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest

from orchestrator.errors import Fenced
from orchestrator.saga.commands import Outcome, Ready, Refused, Succeeded, Unknown
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.model import Saga, SagaId, SagaState
from orchestrator.saga.pausing import Pause, PauseKind
from orchestrator.saga.signals import Signal
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pauses import PostgresPauses
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.port import Claim, SagaLog, StoredPause, StoredSaga, TermLog
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.sagalog.signal_box import Fate, SignalBox
from orchestrator.telemetry import Metrics
from tests.unit.sagas import definition, moment

DEFINITION = definition(True, True, True)


@dataclass
class Store:
    """A saga log under test, as one replica and another have it, and ways to change it that are not the leader's."""

    log: SagaLog
    other: SagaLog
    insert: Callable[[SagaId], Awaitable[None]]
    request_cancel: Callable[[SagaId, str], Awaitable[None]]
    post: Callable[[SagaId, Signal], Awaitable[int]]
    fate: Callable[[int], Awaitable[Fate]]
    pause: Callable[[PauseKind, str], Awaitable[UUID]]
    resume: Callable[[PauseKind, str], Awaitable[None]]
    paused: Callable[[UUID], Awaitable[StoredPause | None]]


def saga_id(number: int) -> SagaId:
    return SagaId(UUID(int=number))


def in_memory() -> Store:
    """The model, and what other replicas do to it."""
    model = MemorySagaLog(time.monotonic)

    async def insert(identity: SagaId) -> None:
        model.insert(Row(identity, "test", 1, {"n": 1}, {"a": "b"}, datetime.now(UTC)))

    async def cancel(identity: SagaId, reason: str) -> None:
        model.request_cancel(identity, reason)

    async def post(identity: SagaId, signal: Signal) -> int:
        return model.post(identity, signal)

    async def fate(number: int) -> Fate:
        return Fate(model.posted[number].heard, model.posted[number].refusal)

    async def pause(kind: PauseKind, name: str) -> UUID:
        model.put_pause(made := Pause(uuid4(), kind, name, "ann", "moving house", datetime.now(UTC)))
        return made.id

    async def resume(kind: PauseKind, name: str) -> None:
        in_force = [one.pause for one in model.pauses() if one.resumed_at is None]
        model.end_pause(next(pause.id for pause in in_force if (pause.kind, pause.name) == (kind, name)))

    async def paused(number: UUID) -> StoredPause | None:
        return model.paused.get(number)

    return Store(model, model, insert, cancel, post, fate, pause, resume, paused)


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield in_memory()
        return
    dsn: str = request.getfixturevalue("database")
    migrate(dsn)
    log, other = (
        PostgresSagaLog(LogSettings(dsn, replica, 0, 10.0, 3.0, 20.0, 4000), Metrics("test", replica))
        for replica in ("r1", "r2")
    )
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:

        async def insert_row(identity: SagaId) -> None:
            await connection.execute(
                "INSERT INTO baton.saga"
                " (id, shard, request_id, request_hash, definition, version, state, input, labels)"
                " VALUES (%s, 0, %s, '', 'test', 1, 'PENDING', %s, %s)",
                [identity, str(identity), orjson.dumps({"n": 1}).decode(), '{"a": "b"}'],
            )
            await connection.execute("NOTIFY baton_work, '0:pending'")

        async def cancel_row(identity: SagaId, reason: str) -> None:
            await connection.execute("UPDATE baton.saga SET cancel_reason = %s WHERE id = %s", [reason, identity])
            await connection.execute("NOTIFY baton_work, '0:cancel'")

        pool = Pool(dsn, "test", 2, 20.0, Metrics("test", "r1"))
        box, pauses = SignalBox(pool), PostgresPauses(pool, 0)

        async def pause_row(kind: PauseKind, name: str) -> UUID:
            return (await pauses.pause(kind, name, "ann", "moving house"))[0].pause.id

        async def resume_row(kind: PauseKind, name: str) -> None:
            await pauses.resume(kind, name, "ben", "moved")

        yield Store(log, other, insert_row, cancel_row, box.post, box.fate, pause_row, resume_row, pauses.one)
        await pool.close()
    await log.close()
    await other.close()


def claim(revision: int, etcd_cluster: str = "c1") -> Claim:
    return Claim(0, "r1", etcd_cluster, revision, "vacant")


class Serving:
    """A term's log with its writer running."""

    def __init__(self, term: TermLog) -> None:
        self.term = term

    async def __aenter__(self) -> TermLog:
        self.writer = asyncio.create_task(self.term.run())
        return self.term

    async def __aexit__(self, *_: Any) -> None:
        self.writer.cancel()
        await asyncio.gather(self.writer, return_exceptions=True)
        await self.term.close()


async def serve(store: Store, revision: int) -> Serving:
    term = await store.log.raise_epoch(claim(revision))
    assert term is not None
    return Serving(term)


async def write(term: TermLog, saga: Saga, *outcomes: Outcome) -> Saga:
    for outcome in outcomes:
        saga, events = decide(saga, outcome, replace(moment(term.epoch), now=datetime.now(UTC)))
        await term.append(saga, events)
    return saga


def restored(stored: StoredSaga) -> Saga:
    assert stored.flaw is None
    return fold(Saga(stored.id, DEFINITION, stored.input, stored.labels, stored.created_at), stored.events)


async def pending(term: TermLog) -> Saga:
    (stored,) = await term.pending(10, [])
    return restored(stored)


async def unfinished(term: TermLog, first: int = 10) -> list[StoredSaga]:
    return [stored async for page in term.unfinished(first, 100) for stored in page]


async def test_the_epoch_is_the_revision_or_one_more(store: Store) -> None:
    async with await serve(store, 40) as term:
        assert term.epoch == 40
    async with await serve(store, 41) as term:
        assert term.epoch == 41


async def test_a_revision_that_was_seen_does_not_raise_the_epoch(store: Store) -> None:
    async with await serve(store, 40):
        assert await store.log.raise_epoch(claim(40)) is None
        assert await store.log.raise_epoch(claim(39)) is None


async def test_another_etcd_cluster_raises_the_epoch_whatever_its_revision(store: Store) -> None:
    async with await serve(store, 40):
        term = await store.log.raise_epoch(claim(3, "c2"))
        assert term is not None
        assert term.epoch == 41
        await term.close()


async def test_a_restored_etcd_raises_the_epoch_by_compare_and_swap(store: Store) -> None:
    async with await serve(store, 40) as old:
        assert await store.log.raise_epoch(claim(7)) is None
        term = await store.log.raise_epoch_again(claim(7))
        assert term.epoch == 41
        with pytest.raises(Fenced):
            await old.prove()
        await term.close()


async def test_what_is_appended_reads_back_as_the_same_saga(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        saga = await write(term, await pending(term), Ready(), Succeeded({"n": 2**62, "t": "é"}), Unknown("X", "y"))
    async with await serve(store, 2) as successor:
        (stored,) = await successor.sagas([saga_id(1)])
        assert restored(stored) == saga


async def test_a_running_saga_is_no_longer_pending(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        await write(term, await pending(term), Ready())
        assert await term.pending(10, []) == []


async def test_pending_sagas_come_oldest_first_without_the_excluded(store: Store) -> None:
    for number in (3, 1, 2):
        await store.insert(saga_id(number))
    async with await serve(store, 1) as term:
        assert [s.id for s in await term.pending(2, [saga_id(1)])] == [saga_id(2), saga_id(3)]
        assert [s.id for s in await term.pending(1, [])] == [saga_id(1)]


async def test_the_scan_pages_over_what_older_epochs_left_unfinished(store: Store) -> None:
    for number in range(1, 8):
        await store.insert(saga_id(number))
    no = Refused("FAILED_PRECONDITION", "no")
    scripts: list[tuple[Outcome, ...]] = [(), (Ready(),), (Ready(), Succeeded({}), no), (Ready(), no)]
    async with await serve(store, 1) as term:
        for index, stored in enumerate(await term.pending(10, [])):
            await write(term, restored(stored), *scripts[index % 4])
        assert await unfinished(term) == []
    async with await serve(store, 2) as successor:
        found = await unfinished(successor, first=1)
        assert [s.id for s in found] == [saga_id(3), saga_id(7), saga_id(2), saga_id(6)]
        assert [restored(s).state for s in found] == [SagaState.COMPENSATING] * 2 + [SagaState.RUNNING] * 2
        await write(successor, restored(found[0]), Ready())
        assert saga_id(3) not in [s.id for s in await unfinished(successor)]


async def test_an_overtaken_epoch_writes_nothing(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        saga = await write(term, await pending(term), Ready())
        async with await serve(store, 2) as successor:
            with pytest.raises(Fenced):
                await asyncio.wait_for(_append_and_run(term, saga), 30)
            with pytest.raises(Fenced):
                await term.prove()
            (stored,) = await unfinished(successor)
            with pytest.raises(Fenced):
                await term.park(stored, "reason")
            assert restored(stored) == saga


async def _append_and_run(term: TermLog, saga: Saga) -> None:
    """An append whose writer may end first: whichever of the two hears of the fence raises."""
    appending = asyncio.create_task(write(term, saga, Succeeded({})))
    writing = asyncio.create_task(term.run())
    done, rest = await asyncio.wait({appending, writing}, return_when=asyncio.FIRST_EXCEPTION)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for task in done:
        task.result()


async def test_many_sagas_share_the_writer(store: Store) -> None:
    for number in range(1, 201):
        await store.insert(saga_id(number))
    async with await serve(store, 1) as term:
        sagas = [restored(stored) for stored in await term.pending(500, [])]
        script = (Ready(), Succeeded({}), Succeeded({}), Succeeded({"last": True}))
        ends = await asyncio.gather(*(write(term, saga, *script) for saga in sagas))
        assert {end.state for end in ends} == {SagaState.COMPLETED}
    async with await serve(store, 2) as successor:
        assert await unfinished(successor) == []
        assert await successor.pending(500, []) == []


async def test_a_parked_saga_is_left_alone(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        await write(term, await pending(term), Ready())
    async with await serve(store, 2) as successor:
        (stored,) = await unfinished(successor)
        await successor.park(stored, "cannot be read")
        assert await unfinished(successor) == []


async def test_cancellations_are_of_live_sagas(store: Store) -> None:
    await store.insert(saga_id(1))
    await store.insert(saga_id(2))
    async with await serve(store, 1) as term:
        await store.request_cancel(saga_id(1), "why")
        assert await term.cancellations() == [(saga_id(1), "why")]
        stored = next(s for s in await term.pending(10, []) if s.id == saga_id(1))
        assert stored.cancel_reason == "why"
        saga, events = decide(restored(stored), Ready(), moment(term.epoch), "why")
        await term.append(saga, events)
        assert await term.cancellations() == []


async def test_a_notification_wakes_the_listener(store: Store) -> None:
    async with await serve(store, 1) as term:
        woken = asyncio.Event()
        listening = asyncio.create_task(term.listen(woken.set))
        async with asyncio.timeout(30):
            await woken.wait()
            woken.clear()
            await store.insert(saga_id(1))
            await woken.wait()
        listening.cancel()


async def test_a_proof_is_dated_before_it_was_asked_for(store: Store) -> None:
    async with await serve(store, 1) as term:
        before = term.proven_at_s
        await term.prove()
        assert term.proven_at_s > before


async def test_the_store_is_reachable(store: Store) -> None:
    assert await store.log.reachable()
