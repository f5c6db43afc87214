"""One suite for how child sagas are begun in the log, and how their parents hear of their end."""

from __future__ import annotations

import asyncio

from orchestrator.saga.commands import Ready, Refused, Succeeded
from orchestrator.saga.model import Saga, SagaState
from orchestrator.saga.signals import Verb
from orchestrator.sagalog.port import NewChild, TermLog

from .test_saga_log import Store, pending, restored, saga_id, serve, store, write

__all__ = ["store"]

CHILD = NewChild(saga_id(2), "test", 1, {"n": 2}, {})
OK = Succeeded({})


async def begun(store: Store, term: TermLog) -> Saga:
    """A parent that runs, and has begun a child with its first step."""
    await store.insert(saga_id(1))
    parent = await write(term, await pending(term), Ready())
    await term.begin_child(parent, "s1", CHILD)
    return parent


async def told(term: TermLog) -> list[tuple[int, str, str]]:
    """What waits to be heard: by which saga, of which step, and in which state its child is."""
    signals = await term.signals(0, 10)
    assert all(one.signal is not None and one.signal.verb is Verb.CHILD for one in signals)
    return [(one.saga_id.int, one.signal.step, (one.signal.result or {})["state"]) for one in signals if one.signal]


async def test_a_child_is_begun_once_and_its_end_wakes_the_leader_and_is_told_to_its_parent(store: Store) -> None:
    async with await serve(store, 1) as term:
        parent = await begun(store, term)
        await term.begin_child(parent, "s1", NewChild(saga_id(3), "test", 1, {"n": 3}, {}))
        child = await pending(term)
        assert (child.id, child.input) == (CHILD.id, {"n": 2})
        child = await write(term, child, Ready(), OK, OK)
        assert await told(term) == []
        woken = asyncio.Event()
        listening = asyncio.create_task(term.listen(woken.set))
        async with asyncio.timeout(30):
            await woken.wait()
            woken.clear()
            child = await write(term, child, OK)
            await woken.wait()
        listening.cancel()
        assert child.state is SagaState.COMPLETED
        assert await told(term) == [(1, "s1", "COMPLETED")]


async def test_a_parent_that_asks_for_its_child_again_hears_of_an_end_that_it_may_have_missed(store: Store) -> None:
    async with await serve(store, 1) as term:
        parent = await begun(store, term)
        await write(term, await pending(term), Ready(), Refused("FAILED_PRECONDITION", "no"))
        await term.begin_child(parent, "s1", CHILD)
        assert await told(term) == [(1, "s1", "COMPENSATED")] * 2


async def test_a_parent_that_does_not_run_any_more_begins_no_child_and_is_told_nothing(store: Store) -> None:
    async with await serve(store, 1) as term:
        parent = await begun(store, term)
        await write(term, await pending(term), Ready(), Refused("FAILED_PRECONDITION", "no"))
        assert len(await told(term)) == 1
        turned = await write(term, parent, Refused("FAILED_PRECONDITION", "no"))
        assert turned.state is SagaState.COMPENSATED
        await term.begin_child(parent, "s1", CHILD)
        await term.begin_child(parent, "s2", NewChild(saga_id(3), "test", 1, {}, {}))
        assert len(await told(term)) == 1
        assert [restored(one).id for one in await term.sagas([saga_id(3)])] == []
