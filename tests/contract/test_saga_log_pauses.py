"""One suite for how the leader reads pauses in the log, goes by them, and finds what they have held."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from orchestrator.errors import Fenced
from orchestrator.saga.commands import Held, Ready
from orchestrator.saga.events import Event, Status
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.model import Saga
from orchestrator.saga.pausing import HOLD_MOST_S, PauseKind, held_by
from orchestrator.saga.script import Moment
from orchestrator.sagalog.port import StoredPause, StoredSaga, TermLog

from .test_saga_log import Store, restored, saga_id, serve, store

__all__ = ["store"]

PARTICIPANT, DEFINITION = PauseKind.PARTICIPANT, PauseKind.DEFINITION


async def found(term: TermLog, within_s: float = HOLD_MOST_S + 60, page: int = 2) -> list[StoredSaga]:
    until = term.now() + timedelta(seconds=within_s)
    return [stored async for several in term.held(until, page) for stored in several]


async def held(term: TermLog, saga: Saga, outcome: Held) -> Saga:
    """The saga, held at its first step."""
    for came in (Ready(), outcome):
        saga, events = decide(saga, came, Moment(term.epoch, term.now(), 0.0))
        await term.append(saga, events)
    return saga


def pauses_of(stored: list[StoredPause]) -> set[UUID]:
    return {one.pause.id for one in stored}


async def test_a_pause_is_told_to_every_leader_until_one_has_released_it(store: Store) -> None:
    first = await store.pause(PARTICIPANT, "h:1")
    async with await serve(store, 1) as term:
        second = await store.pause(DEFINITION, "h:1")
        stored = {one.pause.id: one for one in await term.pauses()}
        assert stored.keys() == {first, second}
        pause = stored[first].pause
        assert (pause.kind, pause.name, pause.by, pause.reason) == (PARTICIPANT, "h:1", "ann", "moving house")
        assert all(one.heeded_at is None and one.resumed_at is None for one in stored.values())
        await term.heed_pauses([first], [])
        heeded = {one.pause.id: one.heeded_at for one in await term.pauses()}
        assert heeded[first] is not None
        assert heeded[second] is None
    async with await serve(store, 2) as term:
        await term.heed_pauses([first, second], [second])
        again = {one.pause.id: one for one in await term.pauses()}
        assert again[first].heeded_at == heeded[first], "it says when a leader first went by it"
        assert again[second].heeded_at is not None
        assert again[second].released_at is None, "it is in force still"
        await store.resume(PARTICIPANT, "h:1")
        ended = {one.pause.id: one.resumed_at for one in await term.pauses()}
        assert ended[first] is not None
        assert ended[second] is None
        await term.heed_pauses([], [first])
        released = {one.pause.id: one.released_at for one in await term.pauses()}
        assert released[first] is not None, "it is told for a while: who was let go on may not have written that"
        assert released[second] is None


async def test_what_is_paused_anew_is_another_pause(store: Store) -> None:
    async with await serve(store, 1) as term:
        first = await store.pause(PARTICIPANT, "h:1")
        await store.resume(PARTICIPANT, "h:1")
        second = await store.pause(PARTICIPANT, "h:1")
        assert pauses_of(await term.pauses()) == {first, second}
        await term.heed_pauses([second], [first])
        (left,) = [one for one in await term.pauses() if one.released_at is None]
        assert (left.pause.id, left.resumed_at) == (second, None)


async def test_nobody_heeds_or_releases_under_an_epoch_that_was_overtaken(store: Store) -> None:
    number = await store.pause(PARTICIPANT, "h:1")
    async with await serve(store, 1) as old, await serve(store, 2) as term:
        with pytest.raises(Fenced):
            await old.heed_pauses([number], [])
        await store.resume(PARTICIPANT, "h:1")
        with pytest.raises(Fenced):
            await old.heed_pauses([], [number])
        (one,) = await term.pauses()
        assert (one.heeded_at, one.released_at) == (None, None)


async def test_what_a_pause_holds_sleeps_and_is_found_by_the_next_leader_in_pages(store: Store) -> None:
    for number in range(1, 8):
        await store.insert(saga_id(number))
    await store.pause(PARTICIPANT, "h:1")
    async with await serve(store, 1) as term:
        (pause,) = [one.pause for one in await term.pauses()]
        by_number = {stored.id.int: restored(stored) for stored in await term.pending(10, [])}
        for number in range(1, 6):
            await held(term, by_number[number], held_by(pause, number / 10))
        # One that an outage holds, and one that waits for a long time for something else.
        await held(term, by_number[6], Held("NOT_CALLED", "away", 60.0, called=False))
        saga, events = decide(by_number[7], Ready(), Moment(term.epoch, term.now(), 0.0))
        await term.append(saga, events)
        at = term.now() + timedelta(hours=5)
        row = Event(saga.sequence + 1, Status.RETRYING, term.epoch, 1, 1, code="X", message="", retry_at=at)
        await term.append(fold(saga, (row,)), (row,))
    async with await serve(store, 2) as term:
        assert [stored async for several in term.unfinished(10, 10) for stored in several] == []
        asleep = await found(term)
        assert [stored.id.int for stored in asleep] == [1, 2, 3, 4, 5]
        assert all(restored(stored).open[0].paused for stored in asleep)
        assert await found(term, within_s=10) == []
