"""One suite for how sagas sleep in the log, are found when they are due, and are told things."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import Fenced
from orchestrator.saga.commands import Ready, Succeeded, Unknown
from orchestrator.saga.events import Event, Order, Status
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.model import Saga
from orchestrator.saga.script import Moment
from orchestrator.saga.signals import Signal, Verb, heed
from orchestrator.sagalog.port import Heard, StoredSaga, TermLog

from .test_saga_log import Store, pending, restored, saga_id, serve, store, unfinished, write

__all__ = ["store"]

ORDER = Order("anna", "the card terminal was broken", "ticket 7")


async def due(term: TermLog) -> list[StoredSaga]:
    return [stored async for page in term.due(10) for stored in page]


async def sleeping(term: TermLog, saga: Saga, for_s: float) -> Saga:
    """The saga, waiting for its second attempt."""
    saga, events = decide(saga, Ready(), Moment(term.epoch, term.now(), 0.0))
    await term.append(saga, events)
    row = Event(
        saga.sequence + 1,
        Status.RETRYING,
        term.epoch,
        1,
        1,
        code="X",
        message="",
        retry_at=term.now() + timedelta(seconds=for_s),
    )
    saga = fold(saga, (row,))
    await term.append(saga, (row,))
    return saga


async def test_the_time_is_the_stores_own(store: Store) -> None:
    async with await serve(store, 1) as term:
        await term.prove()
        before = term.now()
        await asyncio.sleep(0.01)
        assert timedelta(0) < term.now() - before < timedelta(seconds=5)


async def test_a_saga_that_sleeps_is_found_when_it_is_due_and_not_before(store: Store) -> None:
    for number in (1, 2):
        await store.insert(saga_id(number))
    async with await serve(store, 1) as term:
        first, second = [restored(stored) for stored in await term.pending(10, [])]
        await sleeping(term, first, 60)
        second = await sleeping(term, second, -1)
        assert await term.pending(10, []) == []
    async with await serve(store, 2) as successor:
        assert await unfinished(successor) == []
        (stored,) = await due(successor)
        assert restored(stored) == second
        next_s = await successor.next_due_s()
        assert next_s is not None
        assert 30 < next_s <= 60


async def test_what_is_due_comes_in_pages_the_earliest_first(store: Store) -> None:
    for number in range(1, 6):
        await store.insert(saga_id(number))
    async with await serve(store, 1) as term:
        for stored in await term.pending(10, []):
            await sleeping(term, restored(stored), -10 - stored.id.int)
        pages = [[stored.id for stored in page] async for page in term.due(2)]
    assert [one for page in pages for one in page] == [saga_id(number) for number in (5, 4, 3, 2, 1)]
    assert max(len(page) for page in pages) == 2


async def test_a_saga_that_was_woken_sleeps_no_longer(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        saga = await sleeping(term, await pending(term), -1)
        await write(term, saga, Ready())
        assert await due(term) == []
        assert await term.next_due_s() is None


async def test_a_saga_that_waits_for_ever_is_never_due(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        saga = await write(term, await pending(term), Ready())
        paused = heed(saga, Signal(1, Verb.PAUSE, order=ORDER), Moment(term.epoch + 1, term.now(), 0.0))  # type: ignore[arg-type]
        assert paused is not None
    async with await serve(store, 2) as term:
        paused = heed(saga, Signal(1, Verb.PAUSE, order=ORDER), Moment(term.epoch, term.now(), 0.0))
        assert paused is not None
        row = paused.events[0]
        asleep = fold(saga, (row,))
        await term.append(asleep, (row,))
        assert await due(term) == []
        assert await term.next_due_s() is None


async def test_signals_come_in_their_order_until_they_are_heard(store: Store) -> None:
    for number in (1, 2):
        await store.insert(saga_id(number))
    numbers = [
        await store.post(saga_id(1), Signal(0, Verb.PAUSE, order=ORDER)),
        await store.post(saga_id(2), Signal(0, Verb.COMPLETE, "s1", {"n": 2**62, "t": "é"})),
        await store.post(saga_id(1), Signal(0, Verb.FAIL, "s2", None, "ABORTED", "no")),
    ]
    async with await serve(store, 1) as term:
        found = await term.signals(0, 10)
        whose = [saga_id(1), saga_id(2), saga_id(1)]
        assert [(one.saga_id, one.id) for one in found] == list(zip(whose, numbers, strict=True))
        assert found[0].signal == Signal(numbers[0], Verb.PAUSE, order=ORDER)
        assert found[1].signal == Signal(numbers[1], Verb.COMPLETE, "s1", {"n": 2**62, "t": "é"})
        assert [one.id for one in await term.signals(numbers[0], 1)] == [numbers[1]]
        saga = restored((await term.sagas([saga_id(1)]))[0])
        after, events = decide(saga, Ready(), Moment(term.epoch, term.now(), 0.0))
        await term.append(after, events, [Heard(numbers[0]), Heard(numbers[2], "not now")])
        assert [one.id for one in await term.signals(0, 10)] == [numbers[1]]
        await term.refuse([Heard(numbers[1], "nobody is there")])
        assert await term.signals(0, 10) == []
    fates = [await store.fate(number) for number in numbers]
    assert [(one.heard, one.refusal) for one in fates] == [(True, ""), (True, "nobody is there"), (True, "not now")]


async def test_a_signal_is_not_heard_under_an_epoch_that_was_overtaken(store: Store) -> None:
    await store.insert(saga_id(1))
    number = await store.post(saga_id(1), Signal(0, Verb.PAUSE, order=ORDER))
    async with await serve(store, 1) as old:
        saga = await pending(old)
        async with await serve(store, 2) as term:
            events = decide(saga, Ready(), Moment(old.epoch, old.now(), 0.0))
            if hasattr(old, "_store"):
                with pytest.raises(Fenced):
                    await old.append(*events, [Heard(number)])
            else:
                # The writer's task ends by the fence: whoever waits for it is not answered.
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(old.append(*events, [Heard(number)]), 1.0)
            assert [one.id for one in await term.signals(0, 10)] == [number]
            assert not (await store.fate(number)).heard


async def test_an_order_reads_back_with_who_and_why(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        saga = await write(term, await pending(term), Ready(), Unknown("X", "y"))
        forced = heed(saga, Signal(3, Verb.FORCE, "s1", {"id": "x"}, order=ORDER), Moment(term.epoch, term.now(), 0.0))
        assert forced is not None
        await term.append(forced.saga, forced.events)
        (stored,) = await term.sagas([saga_id(1)])
        assert restored(stored) == forced.saga
        assert [event.order for event in stored.events if event.status is Status.FORCED] == [ORDER]


async def test_a_parked_saga_that_is_taken_up_again_is_live(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        saga = await write(term, await pending(term), Ready(), Succeeded({}))
        row = Event(saga.sequence + 1, Status.PARKED, term.epoch, code="PARKED", message="a defect")
        saga = fold(saga, (row,))
        await term.append(saga, (row,))
        assert [stored.parked for stored in await term.sagas([saga_id(1)])] == [True]
        again = heed(saga, Signal(1, Verb.RETRY, order=ORDER), Moment(term.epoch, term.now(), 0.0))
        assert again is not None
        await term.append(again.saga, again.events)
        assert [stored.parked for stored in await term.sagas([saga_id(1)])] == [False]
    async with await serve(store, 2) as successor:
        assert [stored.id for stored in await unfinished(successor)] == [saga_id(1)]
        (stored,) = await successor.sagas([saga_id(1)])
        assert restored(stored) == replace(again.saga)
