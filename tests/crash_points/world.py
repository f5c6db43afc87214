"""What outlives a process: the saga log, the participants' databases, a broker, and what people have done.

A copy of it is what a crash of every process leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from orchestrator.events.model import Cursor
from orchestrator.saga.events import Event
from orchestrator.saga.model import Epoch, Saga, SagaId
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import Claim, Heard, StoredPause, StoredSaga
from orchestrator.simulation.participants import Rules

from .bulk import Told
from .flow import Flow
from .shop import AnsweringShop

SAGA = SagaId(UUID(int=1))
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)

_IN_FORCE = Rules()

# The times of a flow are further apart: two worlds whose waits differ by less go on in the same way.
WAITS_APART_S = 0.1


class Clock:
    """The time of the world that is driven at present, in seconds; only the virtual loop makes it pass."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._offset_s = 0.0

    def set_s(self, now_s: float) -> None:
        self._offset_s = now_s - self._loop.time()

    def now_s(self) -> float:
        return round(self._loop.time() + self._offset_s, 6)

    def now(self) -> datetime:
        return day_time(self.now_s())


def day_time(at_s: float) -> datetime:
    return BEGINNING + timedelta(seconds=at_s)


class DatedLog(MemorySagaLog):
    """The model of the saga log, which notes when each row was committed, as the real tables do.

    `order` are the rows in the order of their commits, by saga and sequence: the stream of events.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock.now_s)
        self.clock = clock
        self.dates: dict[SagaId, list[float]] = {}
        self.order: list[tuple[SagaId, int]] = []
        self.raises: list[tuple[Claim, Epoch, float]] = []

    def fork(self) -> Self:
        other = super().fork()
        other.dates = {saga_id: dates.copy() for saga_id, dates in self.dates.items()}
        other.order, other.raises = self.order.copy(), self.raises.copy()
        return other

    def raised(self, claim: Claim, seen: Epoch | None = None) -> Epoch | None:
        epoch = super().raised(claim, seen)
        if epoch is not None:
            self.raises.append((claim, epoch, self.clock.now_s()))
        return epoch

    def write(self, epoch: Epoch, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> int:
        fresh = super().write(epoch, saga, events, heard)
        self._date(saga.id)
        return fresh

    def park(self, epoch: Epoch, stored: StoredSaga, reason: str) -> None:
        super().park(epoch, stored, reason)
        self._date(stored.id)

    def _date(self, saga_id: SagaId) -> None:
        dates = self.dates.setdefault(saga_id, [])
        for event in self.rows[saga_id].events[len(dates) :]:
            dates.append(self.clock.now_s())
            self.order.append((saga_id, event.sequence))


@dataclass(slots=True)
class World:
    """A saga with its children in the log, and the shop, at one moment.

    `victories` is the revision of etcd: each victory in the election has one of its own, and keeps it. `told` are those
    who have done their part, `published` what a broker has been sent, `relayed` how far the relay has come, and `bulk`
    what the client of an order for many has heard. `answered` is how much of what the operator asks for was answered,
    and `offences` are the calls that began although a leader had said that none would.
    """

    flow: Flow
    log: DatedLog
    shop: AnsweringShop
    now_s: float = 0.0
    victories: int = 0
    told: frozenset[str] = frozenset()
    published: list[tuple[SagaId, int]] = field(default_factory=list)
    relayed: Cursor | None = None
    bulk: Told = field(default_factory=Told)
    answered: int = 0
    offences: tuple[str, ...] = ()

    def fork(self) -> World:
        other = copy(self)
        other.log, other.shop, other.published = self.log.fork(), self.shop.fork(), self.published.copy()
        return other

    def snapshot(self) -> World:
        """A copy of the world that is being driven, as it is now."""
        self.now_s = self.log.clock.now_s()
        return self.fork()

    @property
    def row(self) -> Row:
        return self.log.rows[SAGA]

    def child(self, step: str) -> Row | None:
        """The child saga of a step, if it was begun."""
        return self.log.child(SAGA, step)

    @property
    def started(self) -> list[Row]:
        """The sagas that clients have started."""
        return [row for row in self.log.rows.values() if row.parent is None]

    @property
    def still(self) -> bool:
        """Whether no saga has anything to do any more, and nobody waits to be heard."""
        if self.flow.cancelled_when is not None and not self.bulk.over:
            return False
        if any(one.released_at is None for one in self.log.paused.values()):
            return False
        return all(row.state.terminal for row in self.log.rows.values()) and all(
            one.heard for one in self.log.posted.values()
        )

    def finish(self, step: str) -> None:
        """The participant does what it has accepted."""
        self.shop.finish((SAGA, step), self.log.clock.now_s())

    def decline(self, step: str) -> None:
        """The participant refuses what it has accepted."""
        self.shop.decline((SAGA, step))

    def key(self) -> Hashable:
        """Equal for two worlds that no process could tell apart."""
        log, shop = self.log, self.shop
        rows = tuple(
            (row.id, row.state, row.epoch, row.version, row.cancel_reason, row.wake_at) for row in log.rows.values()
        )
        events = tuple(
            (e.sequence, e.status, e.epoch, e.position, e.attempt, e.code, e.retry_at)
            for row in log.rows.values()
            for e in row.events
        )
        dates = tuple(tuple(dates) for dates in log.dates.values())
        posted = tuple((p.saga_id, p.signal.verb, p.signal.step, p.heard, p.refusal) for p in log.posted.values())
        return (
            (rows, events, dates, posted),
            (log.epoch, tuple(log.raises), self.now_s, self.victories),
            (tuple(shop.effects), frozenset(shop.tombstones), tuple(shop.epochs.items())),
            tuple((key, type(answer)) for key, answer in shop.answers.items()),
            (tuple(shop.accepted), tuple(shop.outbox), tuple(shop.asked.items())),
            (self.told, tuple(self.published), self.relayed, self.bulk),
            (tuple(log.paused.values()), self.answered, self.offences),
        )

    def state(self) -> Hashable:
        """Equal for two worlds that a new leader would drive on in the same way, whatever led to them.

        The log as its fold sees it (an intent written again is one intent, more than once), without epochs and times,
        which are all older than those of the new leader, but for those that are still to come; what waits to be heard;
        and what the participants have stored.
        """
        shop = self.shop
        names = {row.id: _name(row) for row in self.log.rows.values()}
        return (
            tuple(self._row_state(row) for row in self.log.rows.values()),
            tuple(
                (names[one.saga_id], one.signal.verb, one.signal.step, one.signal.code, one.heard)
                for one in self.log.posted.values()
            ),
            (
                tuple((names[e.saga_id], e.step, e.kind) for e in shop.effects),
                frozenset((names[saga_id], step) for saga_id, step in shop.tombstones),
            ),
            frozenset(((names[key[0]], *key[1:]), type(answer)) for key, answer in shop.answers.items()),
            (
                frozenset((names[place[0]], place[1]) for place in shop.accepted),
                frozenset((names[place[0]], place[1]) for place in shop.outbox),
                frozenset((names[place[0]], place[1], asked) for place, asked in shop.asked.items()),
            ),
            (self.told, len(self.published), self.relayed and self.relayed.position, self.bulk),
            (tuple(_pause_state(one) for one in self.log.paused.values()), self.answered, self.offences),
        )

    def _row_state(self, row: Row) -> Hashable:
        told: list[Hashable] = []
        due: dict[Hashable, float] = {}
        many = self.flow.attempts_told
        for event in row.events:
            line = (event.status, event.position, min(event.attempt, many))
            if not told or told[-1] != line:
                told.append(line)
            due[event.status, event.position] = self._left_s(event.retry_at)
        deadline_s = 0.0
        if (within_s := self.flow.definition_of(row.definition).within_s) is not None:
            deadline_s = self._left_s((row.starts_at or row.created_at) + timedelta(seconds=within_s))
        times = (tuple(due.items()), self._left_s(row.wake_at), deadline_s)
        return (_name(row), row.state, row.version, row.cancel_reason, tuple(told), times)

    def _left_s(self, at: datetime | None) -> float:
        """How long it is until then, in steps of `WAITS_APART_S`; 0 when it is past."""
        if at is None:
            return 0.0
        left_s = max(0.0, (at - day_time(self.now_s)).total_seconds())
        return round(left_s / WAITS_APART_S) * WAITS_APART_S


def _pause_state(one: StoredPause) -> Hashable:
    come_to = (one.heeded_at is not None, one.resumed_at is not None, one.released_at is not None)
    return (one.pause.kind, one.pause.name, one.resumed_by, come_to)


def _name(row: Row) -> Hashable:
    """What a saga goes by: a child by the step that runs it, since its id has the time in it."""
    return row.id if row.parent is None else (row.parent, row.parent_step)


def new_world(flow: Flow, log: DatedLog, rules: Rules = _IN_FORCE) -> World:
    """A world in which a client has just been told that its saga is stored."""
    log.clock.set_s(0.0)
    definition = flow.definition
    starts_at = day_time(flow.starts_after_s) if flow.starts_after_s else None
    for number in range(flow.sagas):
        saga_id = SagaId(UUID(int=SAGA.int + number))
        row = Row(saga_id, definition.name, definition.version, flow.input, {}, BEGINNING)
        row.starts_at = row.wake_at = starts_at
        log.insert(row)
    return World(flow, log, AnsweringShop(rules))
