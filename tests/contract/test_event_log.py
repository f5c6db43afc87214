"""One suite for the event log in Postgres and for its model in memory: pages, places, consumers, the horizon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest

from orchestrator.events.model import Cursor, EventFilter, EventRecord, earliest
from orchestrator.events.port import EventLog
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.events import PostgresEvents
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.telemetry import Metrics
from tests.unit.event_log import MemoryEvents, an_event

ALL = EventFilter()


async def as_it_is(event: EventRecord) -> EventRecord:
    """Nothing is secret here."""
    return event


@dataclass
class Stored:
    """An event log with six events of two sagas under two epochs, and the means to remove the first of them."""

    log: EventLog
    remove: Callable[[int], Awaitable[None]]


# (saga, sequence, epoch)
ROWS = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 3, 2), (2, 2, 2), (2, 3, 2)]


@pytest.fixture(params=["memory", "postgres"])
async def stored(request: pytest.FixtureRequest) -> AsyncIterator[Stored]:
    if request.param == "memory":
        model = MemoryEvents()
        for position, (saga, sequence, epoch) in enumerate(ROWS, 1):
            model.events.append(an_event(position, saga, sequence, epoch=epoch))

        async def remove(count: int) -> None:
            model.remove(count)

        yield Stored(model, remove)
        return
    dsn: str = request.getfixturevalue("database")
    migrate(dsn)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for saga in (1, 2):
            await connection.execute(
                "INSERT INTO baton.saga"
                " (id, shard, request_id, request_hash, definition, version, state, sequence, input)"
                " VALUES (%s, 0, %s, '', 'order', 3, 'RUNNING', 3, '{}')",
                [UUID(int=saga), str(saga)],
            )
        for saga, sequence, epoch in ROWS:
            # As a release writes it that knows nothing of events.
            await connection.execute(
                "INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, epoch)"
                """ VALUES (%s, %s, 'pay', 1, 'completed', 1, '{"card": "secret"}', %s)""",
                [UUID(int=saga), sequence, epoch],
            )

        async def remove_rows(count: int) -> None:
            await connection.execute(
                "DELETE FROM baton.step_log WHERE log_position IN"
                " (SELECT log_position FROM baton.step_log ORDER BY log_position LIMIT %s)",
                [count],
            )

        pool = Pool(dsn, "test-events", 4, 10.0, Metrics("test", "r1"))
        yield Stored(PostgresEvents(pool, 0, as_it_is), remove_rows)
        await pool.close()


async def everything(log: EventLog, after: Cursor, wanted: EventFilter = ALL, rows: int = 100) -> list[EventRecord]:
    """Page after page to the end."""
    found: list[EventRecord] = []
    while True:
        page = await log.page(after, wanted, rows)
        found += page.events
        if page.last:
            return found
        after = page.end


def keys(events: list[EventRecord]) -> list[tuple[int, int, int]]:
    return [(e.transition.saga_id.int, e.transition.sequence, e.transition.epoch) for e in events]


@pytest.mark.parametrize("rows", [1, 2, 3, 6, 100])
async def test_pages_of_any_size_have_every_event_in_order(stored: Stored, rows: int) -> None:
    assert keys(await everything(stored.log, earliest(0), rows=rows)) == ROWS


async def test_whoever_goes_on_behind_any_event_gets_the_rest(stored: Stored) -> None:
    events = await everything(stored.log, earliest(0))
    for number, event in enumerate(events, 1):
        again = Cursor.parse(str(event.cursor))
        assert keys(await everything(stored.log, again, rows=2)) == ROWS[number:]


async def test_the_head_is_behind_the_last_event(stored: Stored) -> None:
    head = await stored.log.head()
    assert head == (await everything(stored.log, earliest(0)))[-1].cursor
    page = await stored.log.page(head, ALL, 10)
    assert (page.events, page.end, page.last) == ((), head, True)


async def test_a_filter_leaves_events_out_and_the_place_goes_on(stored: Stored) -> None:
    of_one = EventFilter(saga_id=SagaId(UUID(int=1)))
    assert keys(await everything(stored.log, earliest(0), of_one, rows=2)) == [row for row in ROWS if row[0] == 1]
    nothing = EventFilter(definitions=frozenset({"return"}))
    page = await stored.log.page(earliest(0), nothing, 4)
    assert page.events == ()
    assert not page.last
    assert keys(await everything(stored.log, page.end)) == ROWS[4:]


async def test_a_commit_never_moves_a_consumer_back(stored: Stored) -> None:
    log = stored.log
    assert await log.consumer("mail") is None
    assert await log.commit("mail", Cursor(2, 4)) == Cursor(2, 4)
    assert await log.commit("mail", Cursor(1, 9)) == Cursor(2, 4)
    assert await log.commit("mail", Cursor(2, 5)) == Cursor(2, 5)
    assert await log.consumer("mail") == Cursor(2, 5)


async def test_commits_at_once_leave_the_highest(stored: Stored) -> None:
    cursors = [Cursor(1, number) for number in range(1, 30)]
    answers = await asyncio.gather(*(stored.log.commit("mail", cursor) for cursor in cursors))
    assert all(answer >= cursor for answer, cursor in zip(answers, cursors, strict=True))
    assert await stored.log.consumer("mail") == cursors[-1]


async def test_an_advance_moves_only_from_where_it_saw_the_consumer(stored: Stored) -> None:
    log = stored.log
    assert await log.advance("relay", Cursor(1, 1), Cursor(1, 2)) is None
    await log.commit("relay", Cursor(1, 1))
    assert await log.advance("relay", Cursor(1, 1), Cursor(1, 2)) == Cursor(1, 2)
    # Repeated because nobody heard of it.
    assert await log.advance("relay", Cursor(1, 1), Cursor(1, 2)) == Cursor(1, 2)
    await log.reset("relay", Cursor(0, 0))
    assert await log.advance("relay", Cursor(1, 2), Cursor(1, 3)) == Cursor(0, 0)


async def test_a_consumer_is_reset_and_forgotten(stored: Stored) -> None:
    log = stored.log
    await log.reset("mail", Cursor(2, 6))
    await log.reset("mail", Cursor(1, 1))
    assert await log.consumer("mail") == Cursor(1, 1)
    assert await log.delete("mail")
    assert not await log.delete("mail")
    assert await log.consumer("mail") is None


async def test_consumers_say_how_far_they_are_behind(stored: Stored) -> None:
    events = await everything(stored.log, earliest(0))
    await stored.log.commit("a", events[1].cursor)
    await stored.log.commit("b", events[-1].cursor)
    first, second = await stored.log.consumers()
    assert (first.name, first.cursor, first.lag, first.oldest) == ("a", events[1].cursor, 4, events[2].transition.at)
    assert (second.name, second.lag, second.oldest, second.expired) == ("b", 0, None, False)


async def test_what_retention_removed_is_told_to_whoever_has_not_seen_it(stored: Stored) -> None:
    log = stored.log
    events = await everything(log, earliest(0))
    await log.commit("behind", events[0].cursor)
    await log.commit("beyond", events[2].cursor)
    await stored.remove(3)
    horizon = await log.horizon()
    assert horizon == events[2].cursor.position
    assert {entry.name: entry.expired for entry in await log.consumers()} == {"behind": True, "beyond": False}
    assert (await log.page(events[0].cursor, ALL, 10)).horizon == horizon
    assert events[0].cursor.expired(horizon)
    assert not events[2].cursor.expired(horizon)
    assert not earliest(horizon).expired(horizon)
    assert keys(await everything(log, earliest(horizon))) == ROWS[3:]


async def test_whoever_began_at_the_earliest_event_is_not_told_of_what_was_gone_then(stored: Stored) -> None:
    log = stored.log
    await stored.remove(2)
    begun = earliest(await log.horizon())
    (first, *_) = (await log.page(begun, ALL, 1)).events
    await log.reset("late", Cursor.parse(str(first.cursor)))
    assert not (await log.consumers())[0].expired
    await stored.remove(2)
    assert (await log.consumers())[0].expired
