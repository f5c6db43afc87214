"""A term of leadership: take over what the former leader left, admit what is new, drive it all.

A term is an object with a task group of its own. Whatever ends it (a later epoch, a lost lease, SIGTERM, Postgres
away for too long) cancels every task of it, and nothing of it is left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from orchestrator.driving.admission import Admission
from orchestrator.driving.calls import Surroundings
from orchestrator.driving.children import Children
from orchestrator.driving.driver import Driven, Driver
from orchestrator.driving.looks import Look, Looks
from orchestrator.driving.pausing import Pausing
from orchestrator.driving.port import Participants
from orchestrator.driving.registry import Registry
from orchestrator.errors import BatonError, CorruptLog, Fenced, NotFound, Rejected, Resign
from orchestrator.saga.events import Event
from orchestrator.saga.machine import fold, parked
from orchestrator.saga.model import Epoch, Saga, SagaId, SagaState
from orchestrator.sagalog.port import Claim, Heard, StoredSaga, TermLog
from orchestrator.sagalog.restoring import restored, versions
from orchestrator.telemetry import Metrics

log = structlog.get_logger()

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
    """The time as the leader sees it, since boot in seconds, and chance in [0, 1). Sagas go by the clock of the log."""

    boottime_s: Callable[[], float]
    chance: Callable[[], float]


# What a leader does beside driving sagas, until cancelled. It raises Fenced, and nothing else.
Upkeep = Callable[[TermLog], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Means:
    """What every term of a leader works with.

    `written` is told of every saga with new rows in the log, and of them; `restored` of every one read from the log.
    `comes_back` lets calls to a participant that was paused in by and by.
    """

    registry: Registry
    participants: Participants
    settings: LeaderSettings
    clocks: Clocks
    metrics: Metrics
    written: Callable[[Saga, Sequence[Event]], None] = lambda saga, events: None
    upkeep: Upkeep | None = None
    restored: Callable[[Saga], None] = lambda saga: None
    comes_back: Callable[[str], None] = lambda service: None


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
        self._upkeep = means.upkeep
        self._written = means.written
        self._restored = means.restored
        self._pausing = pausing = Pausing(self, term_log, means)
        surroundings = Surroundings(
            self._clocks.chance, self.vouched, self._called, means.written, lambda: pausing.known
        )
        children = Children(term_log, means.registry, self._clocks.chance, self.wake)
        self._driver = Driver(self._settings.shard, term_log, self._participants, surroundings, self._metrics, children)
        self._driving: dict[SagaId, Driven] = {}
        self._looks = Looks()
        self._room = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._gap_known = False
        self._admission = Admission(self, term_log, means)

    @property
    def epoch(self) -> Epoch:
        """The epoch of this term."""
        return self._log.epoch

    @property
    def cancelling(self) -> set[SagaId]:
        """The sagas being driven whose cancellation was asked for."""
        return {saga_id for saga_id, driven in self._driving.items() if driven.cancel_reason is not None}

    @property
    def looks(self) -> Looks:
        """The looks at the log that are open."""
        return self._looks

    @property
    def room(self) -> int:
        """How many more sagas may be driven at the same time."""
        return self._settings.sagas_max - len(self._driving)

    def driven(self, saga_id: SagaId) -> Driven | None:
        """The saga, if it is being driven."""
        return self._driving.get(saga_id)

    def wake(self) -> None:
        """Look for new sagas, signals and cancellations at once."""
        self._admission.wake()

    def look_again(self) -> None:
        """Have every saga that is being driven go by the pauses that are in force now."""
        for driven in self._driving.values():
            driven.look_again()

    async def serve(self) -> None:
        """Lead until cancelled. Raises an ExceptionGroup of what ended the term."""
        self._participants.warm(self._registry.services())
        async with self._group as group:
            group.create_task(self._log.run())
            group.create_task(self._prove())
            # Nobody is called before it is known who is not to be.
            await self._pausing.learn()
            group.create_task(self._admission.recover())
            group.create_task(self._admission.admit())
            group.create_task(self._admission.listen())
            group.create_task(self._pausing.run())
            group.create_task(self._pausing.release())
            if self._upkeep is not None:
                group.create_task(self._upkeep(self._log))

    def vouched(self) -> bool:
        """Whether a call may start: the lease is held, or the fence has just proven the epoch."""
        return self._mandate.vouched() or self._clocks.boottime_s() - self._log.proven_at_s < PROOF_FRESH_S

    def _called(self) -> None:
        """The first call of the term has ended: the shard is served again."""
        lost_at_s = self._mandate.leader_lost_at_s
        if not self._gap_known and lost_at_s is not None:
            self._metrics.failover_gap_s.observe(max(0.0, self._clocks.boottime_s() - lost_at_s))
        self._gap_known = True

    async def take_up(self, look: Look, stored: StoredSaga) -> Driven | None:
        """Begin to drive a saga that `look` shows, as soon as there is room; parked if it cannot be understood.

        None when it is not to be driven from this look: then somebody must look again.
        """
        while self.room <= 0 and stored.id not in self._driving:
            self._room.clear()
            await self._room.wait()
        driven = self._driving.get(stored.id)
        if driven is not None or not look.trusted(stored.id):
            return driven
        # From here to the entry into the table nothing is awaited that could let somebody else take it up, but for a
        # definition that is read: so the place is kept.
        try:
            saga = await self._restore(stored)
        except (CorruptLog, NotFound, Rejected) as error:
            if not stored.ended:
                await self._park(stored, str(error))
            return None
        if stored.id in self._driving or not look.trusted(stored.id):
            return self._driving.get(stored.id)
        self._restored(saga)
        driven = self._driving[stored.id] = Driven(saga, stored.cancel_reason)
        self._metrics.sagas_in_flight.set(len(self._driving))
        self._group.create_task(self._drive(driven))
        return driven

    async def _restore(self, stored: StoredSaga) -> Saga:
        registry = self._registry
        definitions = {n: (await registry.get(stored.definition, n)).definition for n in versions(stored)}
        return restored(stored, definitions)

    async def _drive(self, driven: Driven) -> None:
        saga_id, ended = driven.saga.id, driven.saga.state.terminal
        try:
            saga = await self._driver.drive(driven)
            if not saga.state.terminal:
                self._admission.asleep(driven)
            elif not ended:
                self._finished(saga)
        except (Fenced, Resign):
            raise
        except Exception as error:
            # The one place that catches everything: a defect met by one saga parks that saga and stops no other.
            log.exception("saga_cannot_be_driven", saga=str(saga_id), epoch=self.epoch)
            await self._park_driven(driven, error)
        finally:
            if self.room <= 0:
                self.wake()
            del self._driving[saga_id]
            self._looks.left(saga_id)
            self._metrics.sagas_in_flight.set(len(self._driving))
            self._room.set()

    def _finished(self, saga: Saga) -> None:
        labels = (saga.definition.name, saga.state.value)
        self._metrics.sagas_finished.labels(*labels).inc()
        self._metrics.saga_s.labels(*labels).observe((self._log.now() - saga.created_at).total_seconds())
        if saga.state is SagaState.FAILED:
            failure = saga.failure
            log.error("saga_parked", saga=str(saga.id), reason=failure.message if failure else "", epoch=self.epoch)

    async def _park_driven(self, driven: Driven, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, BatonError) else str(error)
        saga = driven.saga
        if saga.state.terminal:
            await self._log.refuse([Heard(number, f"it cannot be heeded: {reason}") for number in driven.told])
            return
        event = parked(saga, self.epoch, reason)
        heard = [Heard(signal.id, f"the saga was parked: {reason}") for signal in driven.signals]
        saga = fold(saga, (event,))
        await self._log.append(saga, (event,), heard)
        self._written(saga, (event,))
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
