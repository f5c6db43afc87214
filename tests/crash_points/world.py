"""What outlives a process: the saga log and the participants' databases; and what an audit reads there."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from orchestrator.audit.evidence import (
    Acknowledgement,
    Circumstances,
    EffectRow,
    EpochRow,
    Evidence,
    SagaRow,
    StepRow,
    StepShape,
    Tombstone,
)
from orchestrator.audit.judge import Verdict, judge
from orchestrator.saga.events import Event
from orchestrator.saga.model import Epoch, Saga, SagaId
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import Claim, Heard, StoredSaga
from orchestrator.simulation.participants import Rules, Shop

from .flows import Flow

SAGA = SagaId(UUID(int=1))
REQUEST = "request-1"
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)

_IN_FORCE = Rules()


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
    """The model of the saga log, which notes when each row was committed, as the real tables do."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock.now_s)
        self.clock = clock
        self.dates: list[float] = []
        self.raises: list[tuple[Claim, Epoch, float]] = []

    def fork(self) -> Self:
        other = super().fork()
        other.dates, other.raises = self.dates.copy(), self.raises.copy()
        return other

    def raised(self, claim: Claim, seen: Epoch | None = None) -> Epoch | None:
        epoch = super().raised(claim, seen)
        if epoch is not None:
            self.raises.append((claim, epoch, self.clock.now_s()))
        return epoch

    def write(self, epoch: Epoch, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> int:
        fresh = super().write(epoch, saga, events, heard)
        self.dates += [self.clock.now_s()] * fresh
        return fresh

    def park(self, epoch: Epoch, stored: StoredSaga, reason: str) -> None:
        super().park(epoch, stored, reason)
        self.dates += [self.clock.now_s()] * (len(self.rows[stored.id].events) - len(self.dates))


@dataclass(slots=True)
class World:
    """One saga in its log, and the shop, at one moment. A copy of it is what a crash of every process leaves.

    `victories` is the revision of etcd: each victory in the election has one of its own, and keeps it.
    """

    flow: Flow
    log: DatedLog
    shop: Shop
    now_s: float = 0.0
    victories: int = 0

    def fork(self) -> World:
        return World(self.flow, self.log.fork(), self.shop.fork(), self.now_s, self.victories)

    def snapshot(self) -> World:
        """A copy of the world that is being driven, as it is now."""
        self.now_s = self.log.clock.now_s()
        return self.fork()

    @property
    def row(self) -> Row:
        return self.log.rows[SAGA]

    def key(self) -> Hashable:
        """Equal for two worlds that no process could tell apart."""
        row, shop = self.row, self.shop
        events = tuple((e.sequence, e.status, e.epoch, e.position, e.attempt, e.code, e.retry_at) for e in row.events)
        return (
            (row.state, row.epoch, row.cancel_reason, row.version, events, tuple(self.log.dates)),
            tuple((posted.signal.verb, posted.heard, posted.refusal) for posted in self.log.posted.values()),
            (self.log.epoch, tuple(self.log.raises), self.now_s, self.victories),
            (tuple(shop.effects), frozenset(shop.tombstones), tuple(shop.epochs.items())),
            tuple((key, type(answer)) for key, answer in shop.answers.items()),
        )

    def state(self) -> Hashable:
        """Equal for two worlds that a new leader would drive on in the same way, whatever led to them.

        The log as its fold sees it (an intent written again is one intent, more than once), without epochs and times,
        which are all older than those of the new leader; and what the participants have stored.
        """
        row, shop = self.row, self.shop
        told: list[Hashable] = []
        for event in row.events:
            line = (event.status, event.position, min(event.attempt, 2))
            if not told or told[-1] != line:
                told.append(line)
        last = row.events[-1].retry_at if row.events else None
        wait_s = 0.0 if last is None else max(0.0, (last - day_time(self.now_s)).total_seconds())
        return (
            (row.state, row.cancel_reason, row.version, tuple(told), wait_s),
            tuple((posted.signal.verb, posted.heard, posted.refusal) for posted in self.log.posted.values()),
            (tuple(effect.key for effect in shop.effects), frozenset(shop.tombstones)),
            frozenset((key, type(answer)) for key, answer in shop.answers.items()),
        )

    def audit(self, faults: int) -> Verdict:
        """The verdict of the independent audit."""
        circumstances = Circumstances((Acknowledgement(REQUEST, str(SAGA)),), faults)
        return judge(self._evidence(), circumstances)

    def _evidence(self) -> Evidence:
        row = self.row
        names = ["", *(step.name for step in self.flow.versions[-1].steps)]
        error = None if row.error is None else {"message": row.error}
        saga = SagaRow(str(row.id), REQUEST, 0, row.definition, row.version, str(row.state), error, row.input)
        return Evidence(
            sagas=[saga],
            steps=[
                StepRow(str(row.id), e.sequence, names[e.position], str(e.status), e.epoch, day_time(at_s))
                for e, at_s in zip(row.events, self.log.dates, strict=True)
            ],
            epochs=[
                EpochRow(claim.shard, epoch, claim.holder, claim.cause, day_time(at_s))
                for claim, epoch, at_s in self.log.raises
            ],
            definitions={
                (definition.name, definition.version): tuple(
                    StepShape(step.name, step.compensation is not None) for step in definition.steps
                )
                for definition in self.flow.versions
            },
            effects=[
                EffectRow(e.service, number, str(e.saga_id), e.step, str(e.kind), e.epoch, {}, day_time(e.at_s))
                for number, e in enumerate(self.shop.effects, start=1)
            ],
            tombstones=[Tombstone("shop", str(saga_id), step) for saga_id, step in self.shop.tombstones],
        )


def new_world(flow: Flow, log: DatedLog, rules: Rules = _IN_FORCE) -> World:
    """A world in which a client has just been told that its saga is stored."""
    log.clock.set_s(0.0)
    definition = flow.definition
    log.insert(Row(SAGA, definition.name, definition.version, flow.input, {}, BEGINNING))
    return World(flow, log, Shop(rules))
