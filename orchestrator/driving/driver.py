"""The core loop: what a saga asks for is done, what came of it is logged, until it asks for nothing more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import Counter, Histogram

from orchestrator.driving.port import Invocation, Participants
from orchestrator.errors import InvariantError
from orchestrator.saga.commands import Call, Command, Intend, Outcome, Ready, Refused, Wait
from orchestrator.saga.machine import Moment, decide, next_command
from orchestrator.saga.mapping import PointsNowhere
from orchestrator.saga.model import Json, Kind, Saga, SagaId
from orchestrator.sagalog.port import TermLog
from orchestrator.telemetry import Metrics


@dataclass(slots=True)
class Driven:
    """A saga that is being driven, as it was last logged, and what others may tell its driver meanwhile."""

    saga: Saga
    cancel_reason: str | None = None
    begun: bool = False
    nudged: asyncio.Event = field(default_factory=asyncio.Event)

    def cancel(self, reason: str) -> None:
        """Have the saga compensated, at once if it waits, else when the call in flight has ended."""
        self.cancel_reason = reason
        self.nudged.set()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the loop may not decide: the time, chance, and whether the lease still vouches for this leader.

    `called` is told of every call that has ended, `written` of every saga with new rows in the log.
    """

    now: Callable[[], datetime]
    chance: Callable[[], float]
    vouched: Callable[[], bool]
    called: Callable[[], None]
    written: Callable[[SagaId], None]


class Driver:
    """Drives sagas of one shard under one epoch."""

    def __init__(
        self, shard: int, log: TermLog, participants: Participants, surroundings: Surroundings, metrics: Metrics
    ) -> None:
        self._shard = shard
        self._epoch = log.epoch
        self._log = log
        self._participants = participants
        self._surroundings = surroundings
        self._metrics = metrics
        # prometheus_client looks a series up by its labels at a cost that shows on the hot path.
        self._series: dict[tuple[str, str, Kind, type], tuple[Counter, Histogram]] = {}

    async def drive(self, driven: Driven) -> Saga:
        """Drive the saga to its end and return it.

        Raises Fenced when a later epoch has taken over, CorruptLog when Postgres refuses a row of this saga.
        """
        saga = driven.saga
        while (command := next_command(saga, self._epoch)) is not None:
            outcome = await self._perform(driven, saga, command)
            saga, events = decide(saga, outcome, self._moment(), driven.cancel_reason)
            await self._log.append(saga, events)
            driven.saga, driven.begun = saga, True
            self._surroundings.written(saga.id)
        return saga

    async def _perform(self, driven: Driven, saga: Saga, command: Command) -> Outcome:
        match command:
            case Intend():
                return Ready()
            case Wait(until):
                await self._wait(driven, until)
                return Ready()
            case Call():
                return await self._call(saga, command)

    async def _wait(self, driven: Driven, until: datetime) -> None:
        """Sleep until the time has come, or somebody cancels a saga that can still turn back.

        The time may have been set by another replica's clock, or by ours before it was moved: whatever it says,
        nobody waits longer than the policy has anybody wait.
        """
        left_s = min((until - self._surroundings.now()).total_seconds(), _delay_max_s(driven.saga))
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                await driven.nudged.wait()
        except TimeoutError:
            return
        driven.nudged.clear()

    async def _call(self, saga: Saga, command: Call) -> Outcome:
        step = saga.definition.step(command.position)
        compensation = step.compensation
        method = step.action
        if command.kind is Kind.COMPENSATION and compensation is not None:
            method = compensation.method
        if method is None:
            raise InvariantError(f"step {step.name} of saga {saga.id} calls nobody")
        try:
            request = method.request.evaluate(context(saga))
        except PointsNowhere as error:
            return Refused("MAPPING", str(error))
        # The intent has just been written under this epoch. If the lease cannot vouch that it still holds, because
        # etcd is away or this process was stopped meanwhile, the fence has to.
        if not self._surroundings.vouched():
            await self._log.prove()
        invocation = Invocation(
            saga_id=saga.id,
            definition=saga.definition.name,
            version=saga.definition.version,
            step=step.name,
            service=step.service,
            method=method,
            kind=command.kind,
            attempt=command.attempt,
            shard=self._shard,
            epoch=self._epoch,
            request=request,
            timeout_s=step.timeout_s,
        )
        began_s = time.perf_counter()
        outcome = await self._participants.call(invocation)
        self._surroundings.called()
        self._observe(invocation, outcome, time.perf_counter() - began_s)
        return outcome

    def _observe(self, invocation: Invocation, outcome: Outcome, took_s: float) -> None:
        key = (invocation.definition, invocation.step, invocation.kind, type(outcome))
        series = self._series.get(key)
        if series is None:
            labels = (invocation.definition, invocation.step, invocation.kind.value)
            count = self._metrics.steps.labels(*labels, type(outcome).__name__.lower())
            series = self._series[key] = (count, self._metrics.step_s.labels(*labels))
        series[0].inc()
        series[1].observe(took_s)

    def _moment(self) -> Moment:
        return Moment(self._epoch, self._surroundings.now(), self._surroundings.chance())


def _delay_max_s(saga: Saga) -> float:
    """The longest wait between two attempts of what the saga is at, in seconds."""
    if saga.cursor is None:
        raise InvariantError(f"saga {saga.id} waits for nothing")
    step = saga.definition.step(saga.cursor.position)
    if saga.cursor.kind is Kind.COMPENSATION and step.compensation is not None:
        return step.compensation.retry.max_s
    return step.retry.max_s


def context(saga: Saga) -> Json:
    """What the expressions of a mapping see."""
    return {
        "input": saga.input,
        "results": {saga.definition.step(position).name: result for position, result in saga.results},
        "saga": {
            "id": str(saga.id),
            "definition": saga.definition.name,
            "version": saga.definition.version,
            "labels": saga.labels,
        },
    }
