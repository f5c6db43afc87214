"""A term of leadership: take over what the former leader left, admit what is new, drive it all.

A term is an object with a task group of its own. Whatever ends it (a later epoch, a lost lease, SIGTERM, Postgres
away for too long) cancels every task of it, and nothing of it is left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from orchestrator.driving.driver import Driven, Driver, Surroundings
from orchestrator.driving.port import Participants
from orchestrator.driving.registry import Registry
from orchestrator.errors import BatonError, CorruptLog, Fenced, LogUnavailable, NotFound, Rejected, Resign
from orchestrator.saga.machine import fold, parked
from orchestrator.saga.model import Epoch, Saga, SagaId, SagaState
from orchestrator.sagalog.port import Claim, StoredSaga, TermLog
from orchestrator.telemetry import Metrics

log = structlog.get_logger()

# The first page of the recovery scan is small, so that its sagas are driven at once; the pages then double.
FIRST_PAGE = 32
SCAN_AGAIN_S = 0.1

# An idle leader asks the fence so often, in seconds; and so long a proof vouches for starting a call.
PROOF_INTERVAL_S = 0.5
PROOF_FRESH_S = 0.25


class Mandate(Protocol):
    """A victory in the election, as far as the leader needs to know it. Times are readings of CLOCK_BOOTTIME."""

    @property
    def claim(self) -> Claim:
        """What to raise the epoch with."""

    @property
    def leader_lost_at_s(self) -> float | None:
        """The last sign of the former leader that this replica saw, if it saw any."""

    def vouched(self) -> bool:
        """Whether the lease is held for certain at this moment."""

    async def confirm(self) -> bool:
        """Whether the key in etcd is still ours, by a linearizable read."""


@dataclass(frozen=True, slots=True)
class LeaderSettings:
    """Bounds of a leader. Times are in seconds."""

    shard: int
    sagas_max: int
    recovery_page: int
    poll_interval_s: float


@dataclass(frozen=True, slots=True)
class Clocks:
    """The time as the leader sees it: of the day, and since boot in seconds; and chance in [0, 1)."""

    now: Callable[[], datetime]
    boottime_s: Callable[[], float]
    chance: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Means:
    """What every term of a leader works with. `written` is told of every saga with new rows in the log."""

    registry: Registry
    participants: Participants
    settings: LeaderSettings
    clocks: Clocks
    metrics: Metrics
    written: Callable[[SagaId], None] = lambda _: None


class Term:
    """One term: its epoch, its log, its sagas, its task group."""

    def __init__(self, means: Means, term_log: TermLog, mandate: Mandate) -> None:
        self._log = term_log
        self._mandate = mandate
        self._registry = means.registry
        self._settings = means.settings
        self._clocks = means.clocks
        self._metrics = means.metrics
        self._participants = means.participants
        surroundings = Surroundings(self._clocks.now, self._clocks.chance, self._vouched, self._called, means.written)
        self._driver = Driver(self._settings.shard, term_log, self._participants, surroundings, self._metrics)
        self._driving: dict[SagaId, Driven] = {}
        # Sagas that were taken up from a scan, or claimed while pending, and that the log may still show as they
        # were then. One is forgotten only before a read that begins after its first write, so no read of an old
        # snapshot can make it be driven a second time.
        self._taken_up: dict[SagaId, Driven] = {}
        self._claimed: dict[SagaId, Driven] = {}
        self._recovered = 0
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._gap_known = False
        self._underway = asyncio.Event()

    @property
    def epoch(self) -> Epoch:
        """The epoch of this term."""
        return self._log.epoch

    @property
    def cancelling(self) -> set[SagaId]:
        """The sagas being driven whose cancellation was asked for."""
        return {saga_id for saga_id, driven in self._driving.items() if driven.cancel_reason is not None}

    def wake(self) -> None:
        """Look for new sagas and cancellations at once."""
        self._work.set()

    async def serve(self) -> None:
        """Lead until cancelled. Raises an ExceptionGroup of what ended the term."""
        self._participants.warm(self._registry.services())
        async with self._group as group:
            group.create_task(self._log.run())
            group.create_task(self._recover())
            group.create_task(self._admit())
            group.create_task(self._listen())
            group.create_task(self._prove())

    def _vouched(self) -> bool:
        """Whether a call may start: the lease is held, or the fence has just proven the epoch."""
        return self._mandate.vouched() or self._clocks.boottime_s() - self._log.proven_at_s < PROOF_FRESH_S

    async def _listen(self) -> None:
        """Hear of new work; not before the first sagas are driven, since a connection takes time to make."""
        await self._underway.wait()
        await self._log.listen(self.wake)

    def _called(self) -> None:
        """The first call of the term has ended: the shard is served again."""
        lost_at_s = self._mandate.leader_lost_at_s
        if not self._gap_known and lost_at_s is not None:
            self._metrics.failover_gap_s.observe(max(0.0, self._clocks.boottime_s() - lost_at_s))
        self._gap_known = True

    async def _recover(self) -> None:
        """Drive what the former leader left, beginning before the last of it is read."""
        began_s = self._clocks.boottime_s()
        while True:
            try:
                await self._scan()
                break
            except LogUnavailable as error:
                log.warning("recovery_interrupted", epoch=self.epoch, error=str(error), reaction="scanning again")
                await asyncio.sleep(SCAN_AGAIN_S)
        took_s = self._clocks.boottime_s() - began_s
        self._metrics.recovery_s.observe(took_s)
        log.info("recovered", epoch=self.epoch, sagas=self._recovered, took_s=round(took_s, 4))

    async def _scan(self) -> None:
        """Take up every unfinished saga that this epoch has not written yet. An interrupted scan may begin anew."""
        pages = self._log.unfinished(FIRST_PAGE, self._settings.recovery_page)
        while True:
            self._taken_up = _unbegun(self._taken_up)
            page = await anext(pages, None)
            if page is None:
                self._underway.set()
                return
            for stored in page:
                if stored.id not in self._taken_up:
                    await self._have_room()
                    await self._take_up(stored, self._taken_up)
                    self._recovered += 1
                    self._metrics.recovered_sagas.inc()
            self._underway.set()

    async def _admit(self) -> None:
        """Take up pending sagas and cancellations, whenever there may be some and there is room."""
        while True:
            self._work.clear()
            try:
                await self._cancel()
                if await self._claim_pending():
                    continue
            except LogUnavailable as error:
                log.warning("cannot_look_for_work", epoch=self.epoch, error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.poll_interval_s):
                    await self._work.wait()

    async def _claim_pending(self) -> bool:
        """Claim a page of pending sagas; True when there may be more, and room for them."""
        limit = min(self._settings.sagas_max - len(self._driving), self._settings.recovery_page)
        if limit <= 0:
            return False
        self._claimed = _unbegun(self._claimed)
        page = await self._log.pending(limit, list(self._claimed))
        for stored in page:
            if stored.id not in self._claimed:
                await self._take_up(stored, self._claimed)
        return len(page) == limit

    async def _cancel(self) -> None:
        for saga_id, reason in await self._log.cancellations():
            driven = self._driving.get(saga_id)
            if driven is not None and driven.cancel_reason is None:
                driven.cancel(reason)

    async def _have_room(self) -> None:
        while len(self._driving) >= self._settings.sagas_max:
            self._room.clear()
            await self._room.wait()

    async def _take_up(self, stored: StoredSaga, unbegun: dict[SagaId, Driven]) -> None:
        """Fold a saga's log and begin to drive it; a saga that cannot be understood is parked."""
        try:
            driven = Driven(await self._restore(stored), stored.cancel_reason)
        except (CorruptLog, NotFound, Rejected) as error:
            await self._park(stored, str(error))
            return
        self._driving[stored.id] = unbegun[stored.id] = driven
        self._metrics.sagas_in_flight.set(len(self._driving))
        self._group.create_task(self._drive(driven))

    async def _restore(self, stored: StoredSaga) -> Saga:
        if stored.flaw is not None:
            raise CorruptLog(stored.flaw)
        compiled = await self._registry.get(stored.definition, stored.version)
        saga = Saga(stored.id, compiled.definition, stored.input, stored.labels, stored.created_at)
        return fold(saga, stored.events)

    async def _drive(self, driven: Driven) -> None:
        saga_id = driven.saga.id
        try:
            saga = await self._driver.drive(driven)
            self._finished(saga)
        except (Fenced, Resign):
            raise
        except Exception as error:
            # The one place that catches everything: a defect met by one saga parks that saga and stops no other.
            log.exception("saga_cannot_be_driven", saga=str(saga_id), epoch=self.epoch)
            await self._park_driven(driven, error)
        finally:
            if len(self._driving) == self._settings.sagas_max:
                self._work.set()
            del self._driving[saga_id]
            self._metrics.sagas_in_flight.set(len(self._driving))
            self._room.set()

    def _finished(self, saga: Saga) -> None:
        labels = (saga.definition.name, saga.state.value)
        self._metrics.sagas_finished.labels(*labels).inc()
        self._metrics.saga_s.labels(*labels).observe((self._clocks.now() - saga.created_at).total_seconds())
        if saga.state is SagaState.FAILED:
            failure = saga.failure
            log.error("saga_parked", saga=str(saga.id), reason=failure.message if failure else "", epoch=self.epoch)

    async def _park_driven(self, driven: Driven, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, BatonError) else str(error)
        saga = driven.saga
        event = parked(saga, self.epoch, reason)
        await self._log.append(fold(saga, (event,)), (event,))
        self._metrics.sagas_finished.labels(saga.definition.name, SagaState.FAILED.value).inc()

    async def _park(self, stored: StoredSaga, reason: str) -> None:
        log.error("saga_parked", saga=str(stored.id), reason=reason, epoch=self.epoch)
        await self._log.park(stored, reason)
        self._metrics.sagas_finished.labels(stored.definition, SagaState.FAILED.value).inc()

    async def _prove(self) -> None:
        """Find out about a later epoch, or about Postgres being away, also while there is nothing to write."""
        while True:
            await asyncio.sleep(PROOF_INTERVAL_S)
            if self._clocks.boottime_s() - self._log.proven_at_s >= PROOF_INTERVAL_S:
                await self._log.prove()


def _unbegun(claims: dict[SagaId, Driven]) -> dict[SagaId, Driven]:
    return {saga_id: driven for saga_id, driven in claims.items() if not driven.begun}
