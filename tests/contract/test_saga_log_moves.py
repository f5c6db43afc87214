"""One suite for sagas that are moved to another version: what the log says of them, in memory and in Postgres."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from orchestrator.errors import Fenced
from orchestrator.saga.commands import Ready, Succeeded, Unknown
from orchestrator.saga.events import Order
from orchestrator.saga.machine import decide
from orchestrator.saga.model import Saga, SagaState
from orchestrator.saga.moving import Destination
from orchestrator.saga.script import Moment
from orchestrator.saga.signals import Heeded, Signal, Verb, heed
from orchestrator.sagalog.port import Heard, TermLog
from orchestrator.sagalog.restoring import restored, versions

from .test_saga_log import DEFINITION, Store, claim, pending, saga_id, serve, store, unfinished

__all__ = ["store"]

NEXT = replace(DEFINITION, version=2, steps=(*DEFINITION.steps[:1], replace(DEFINITION.steps[1], timeout_s=60.0)))
KNOWN = {1: DEFINITION, 2: NEXT}
ORDER = Order("anna", "a better version", "")


async def told(term: TermLog, saga: Saga, signal_id: int, to: int) -> Heeded:
    """What comes of a move that was stored under this id, written down."""
    destination = Destination(KNOWN[to], from_version=saga.definition.version)
    signal = Signal(signal_id, Verb.MOVE, order=ORDER, destination=destination)
    heeded = heed(saga, signal, Moment(term.epoch, term.now(), 0.0))
    assert heeded is not None
    await term.append(heeded.saga, heeded.events, (Heard(signal_id, heeded.refusal),))
    return heeded


def move(to: int) -> Signal:
    return Signal(0, Verb.MOVE, result={"definition": "test", "to": to}, order=ORDER)


async def test_the_version_changes_with_the_row_that_says_so(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        saga, events = decide(await pending(term), Ready(), Moment(term.epoch, term.now(), 0.0))
        await term.append(saga, events)
        number = await store.post(saga_id(1), move(2))
        (stored,) = await term.signals(0, 10)
        assert stored.signal is not None
        assert (stored.signal.version, stored.signal.order) == (("test", 2), ORDER)
        heeded = await told(term, saga, number, 2)
        assert (await store.fate(number)).heard
        assert await term.signals(0, 10) == []
        (row,) = await term.sagas([saga_id(1)])
        assert (row.version, versions(row)) == (2, (1, 2))
        assert restored(row, KNOWN) == heeded.saga
    # Another leader finds it as the former one left it, and drives it on under the new version.
    async with await serve(store, 2) as heir:
        (row,) = await unfinished(heir)
        saga = restored(row, KNOWN)
        assert saga == heeded.saga
        for outcome in (Ready(), Succeeded({"n": 1})):
            saga, events = decide(saga, outcome, Moment(heir.epoch, heir.now(), 0.0))
            await heir.append(saga, events)
        (row,) = await heir.sagas([saga_id(1)])
        assert (row.version, restored(row, KNOWN)) == (2, saga)


async def test_a_move_that_is_refused_changes_nothing_but_the_signal(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        saga, events = decide(await pending(term), Ready(), Moment(term.epoch, term.now(), 0.0))
        await term.append(saga, events)
        number = await store.post(saga_id(1), move(1))
        await told(term, saga, number, 1)
        fate = await store.fate(number)
        assert (fate.heard, fate.refusal) == (True, "it cannot be moved to version 1: version is 1 already")
        (row,) = await term.sagas([saga_id(1)])
        assert (row.version, restored(row, KNOWN)) == (1, saga)


async def test_a_parked_saga_is_moved_and_stays_parked(store: Store) -> None:
    await store.insert(saga_id(1))
    async with await serve(store, 1) as term:
        saga = await pending(term)
        moment = Moment(term.epoch, term.now(), 0.0)
        for outcome in (Ready(), Succeeded({})):
            saga, events = decide(saga, outcome, moment)
            await term.append(saga, events)
        parking = heed(saga, Signal(0, Verb.PAUSE, order=ORDER), moment)
        assert parking is not None
        await term.append(parking.saga, parking.events)
        paused = parking.saga
        # While it is paused its call ends without an outcome; then it is moved, resumed, and moved back.
        saga, events = decide(paused, Unknown("X", "nobody knows"), moment, position=2)
        await term.append(saga, events)
        for to in (2, 1, 2):
            saga = (await told(term, saga, await store.post(saga_id(1), move(to)), to)).saga
        (row,) = await term.sagas([saga_id(1)])
        assert (row.version, versions(row)) == (2, (1, 2, 1, 2))
        assert restored(row, KNOWN) == saga
        assert saga.paused
        assert saga.state is SagaState.RUNNING


async def test_a_move_under_an_old_epoch_is_fenced(store: Store) -> None:
    await store.insert(saga_id(1))
    serving = await serve(store, 1)
    async with serving as old:
        saga, events = decide(await pending(old), Ready(), Moment(old.epoch, old.now(), 0.0))
        await old.append(saga, events)
        number = await store.post(saga_id(1), move(2))
        heir = await store.other.raise_epoch(claim(2))
        assert heir is not None
        appending = asyncio.create_task(told(old, saga, number, 2))
        done, _ = await asyncio.wait({appending, serving.writer}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert [type(task.exception()) for task in done] == [Fenced]
        appending.cancel()
        await asyncio.gather(appending, return_exceptions=True)
        (row,) = await heir.sagas([saga_id(1)])
        assert (row.version, row.events) == (1, events)
        assert [one.id for one in await heir.signals(0, 10)] == [number]
        await heir.close()
