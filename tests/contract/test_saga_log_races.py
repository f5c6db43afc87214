"""Races for the fence, held against Postgres and against its model, where a statement takes effect at one moment.

What only a store with locks can show (R11: a writer that stopped with the fence row is disconnected; a commit that
nobody heard of is found and not repeated) stands in tests/integration/test_saga_log_faults.py.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from orchestrator.errors import Fenced, InvariantError
from orchestrator.saga.commands import Ready, Succeeded
from orchestrator.saga.machine import decide
from orchestrator.saga.model import Saga, SagaId
from orchestrator.sagalog.port import SagaLog, StoredSaga, TermLog
from tests.unit.sagas import moment

from .test_saga_log import Serving, Store, claim, pending, restored, saga_id, serve, store, unfinished, write

__all__ = ["store"]

SAGAS = 40


async def everything(term: TermLog) -> dict[SagaId, StoredSaga]:
    """All that a new leader reads: pages of the scan, and what nobody has begun."""
    return {stored.id: stored for stored in [*await unfinished(term, first=7), *await term.pending(1000, [])]}


async def write_until_fenced(term: TermLog, saga: Saga, acknowledged: dict[SagaId, Saga]) -> None:
    """Append one transition after the other, as long as the fence lets it; note each that was acknowledged."""
    while not saga.state.terminal:
        saga = await write(term, saga, Succeeded({"n": saga.sequence}) if saga.cursor else Ready())
        acknowledged[saga.id] = saga


@pytest.mark.parametrize("seed", range(6))
async def test_a_write_in_flight_is_in_the_scan_after_the_raise_or_never_happens(store: Store, seed: int) -> None:
    for number in range(1, SAGAS + 1):
        await store.insert(saga_id(number))
    chance, acknowledged = random.Random(seed), dict[SagaId, Saga]()
    old = await store.log.raise_epoch(claim(1))
    assert old is not None
    begun = [restored(stored) for stored in await old.pending(1000, [])]
    assert len(begun) == SAGAS
    running = asyncio.create_task(old.run())
    writing = [asyncio.create_task(write_until_fenced(old, saga, acknowledged)) for saga in begun]
    for _ in range(chance.randrange(4)):
        await asyncio.sleep(0)
    successor = await store.other.raise_epoch(claim(2))
    assert successor is not None
    heard = dict(acknowledged)
    first = await everything(successor)
    # The old leader finds out by its next write, and has no other way to go on.
    ends = await asyncio.wait_for(_end_of(running, writing), 60)
    assert all(isinstance(end, Fenced) for end in ends)
    with pytest.raises(Fenced):
        await old.prove()
    assert await everything(successor) == first
    for identity, saga in heard.items():
        if not saga.state.terminal:
            assert first[identity].last_sequence >= saga.sequence
    for stored in first.values():
        assert {event.epoch for event in stored.events} <= {old.epoch}
        restored(stored)
    await old.close()
    await successor.close()


async def _end_of(running: asyncio.Task[None], writing: list[asyncio.Task[None]]) -> list[BaseException]:
    """What ended the writer, or the appends where each hears of the fence by itself."""
    appends = asyncio.gather(*writing, return_exceptions=True)
    await asyncio.wait([running, appends], return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in [running, *writing] if task.done()]
    for task in [running, *writing]:
        task.cancel()
    await asyncio.gather(running, *writing, return_exceptions=True)
    return [error for task in ended if not task.cancelled() and (error := task.exception()) is not None]


async def test_of_two_raises_by_one_victory_one_succeeds(store: Store) -> None:
    for revision in range(1, 11):
        terms = await asyncio.gather(*(log.raise_epoch(claim(revision)) for log in (store.log, store.other)))
        (term,) = [term for term in terms if term is not None]
        assert term.epoch == revision
        await term.prove()
        await term.close()


async def test_of_two_victories_at_once_the_later_one_holds_the_fence(store: Store) -> None:
    for revision in range(1, 21, 2):
        logs = [(store.log, revision), (store.other, revision + 1)]
        if revision % 4 == 1:
            logs.reverse()
        terms = await asyncio.gather(*(log.raise_epoch(claim(number)) for log, number in logs))
        late, early = (terms[index] for index in ((0, 1) if logs[0][1] > logs[1][1] else (1, 0)))
        assert late is not None
        await late.prove()
        if early is not None:
            assert early.epoch < late.epoch
            with pytest.raises(Fenced):
                await early.prove()
            await early.close()
        await late.close()


async def test_of_raises_by_compare_and_swap_the_last_one_holds_the_fence(store: Store) -> None:
    first = await store.log.raise_epoch(claim(50))
    assert first is not None
    highest, refused = first.epoch, 0

    async def again(log: SagaLog, revision: int) -> TermLog | None:
        try:
            return await log.raise_epoch_again(claim(revision))
        except Fenced:
            return None

    for revision in range(3, 13):
        terms = [term for term in await asyncio.gather(*(again(log, revision) for log in (store.log, store.other)))]
        raised = sorted((term for term in terms if term is not None), key=lambda term: term.epoch)
        refused += 2 - len(raised)
        assert [term.epoch for term in raised] == list(range(highest + 1, highest + 1 + len(raised)))
        assert raised
        highest = raised[-1].epoch
        await raised[-1].prove()
        for term in raised[:-1]:
            with pytest.raises(Fenced):
                await term.prove()
        for term in raised:
            await term.close()
    # Each of the twenty raised the epoch by one or was refused, and a refused one used up none.
    assert highest == first.epoch + 20 - refused
    last = await store.log.raise_epoch_again(claim(13))
    assert last.epoch == highest + 1
    with pytest.raises(Fenced):
        await first.prove()
    await last.close()
    await first.close()


async def test_proofs_at_once_end_with_the_raise(store: Store) -> None:
    async with await serve(store, 1) as old:
        proofs = [asyncio.create_task(old.prove()) for _ in range(30)]
        successor = await store.other.raise_epoch(claim(2))
        assert successor is not None
        after = await asyncio.gather(*(old.prove() for _ in range(10)), return_exceptions=True)
        assert all(isinstance(proof, Fenced) for proof in after)
        outcomes = await asyncio.gather(*proofs, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, Fenced) for outcome in outcomes)
        # Proofs are answered in order: once one is refused, so is each that follows.
        refused = [isinstance(outcome, Fenced) for outcome in outcomes]
        assert refused == sorted(refused)
        await successor.prove()
        await successor.close()


async def test_rows_that_the_log_has_already_are_a_defect_of_whoever_writes_them_again(store: Store) -> None:
    await store.insert(saga_id(1))
    term = await store.log.raise_epoch(claim(1))
    assert term is not None
    saga = await pending(term)
    after, events = decide(saga, Ready(), moment(term.epoch))
    running = asyncio.create_task(term.run())
    await term.append(after, events)
    appending = asyncio.create_task(term.append(after, events))
    await asyncio.wait([running, appending], return_when=asyncio.FIRST_EXCEPTION, timeout=20)
    errors = [task.exception() for task in (running, appending) if task.done()]
    assert [type(error) for error in errors] == [InvariantError]
    for task in (running, appending):
        task.cancel()
    await asyncio.gather(running, appending, return_exceptions=True)
    async with await serve(store, 2) as successor:
        (stored,) = await unfinished(successor)
        assert restored(stored) == after
    await term.close()


async def test_each_of_three_generations_is_fenced_by_the_next(store: Store) -> None:
    await store.insert(saga_id(1))
    terms: list[TermLog] = []
    for revision in (1, 2, 3):
        term = await store.log.raise_epoch(claim(revision))
        assert term is not None
        terms.append(term)
    async with Serving(terms[-1]) as newest:
        saga = await write(newest, await pending(newest), Ready())
        for old in terms[:-1]:
            (stored,) = [StoredSaga(saga.id, "test", 1, {}, {}, saga.created_at, None, (), 1)]
            with pytest.raises(Fenced):
                await old.prove()
            with pytest.raises(Fenced):
                await old.park(stored, "a leader of the past")
        await write(newest, saga, Succeeded({}))
    for old in terms[:-1]:
        await old.close()
