"""Performs what a saga asks of a participant: makes the request, proves the epoch, calls, and counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import Counter, Histogram

from orchestrator.driving.port import Invocation, Participants
from orchestrator.errors import InvariantError
from orchestrator.saga.commands import Ask, Begin, Call, Outcome, Refused
from orchestrator.saga.definition import Method, Step
from orchestrator.saga.events import NOT_TO_BE_MADE, Event
from orchestrator.saga.mapping import PointsNowhere
from orchestrator.saga.model import Kind, Saga
from orchestrator.saga.pausing import NO_PAUSES, Pauses, held_by
from orchestrator.saga.progress import context
from orchestrator.sagalog.port import TermLog
from orchestrator.telemetry import Metrics

# An attempt whose step is almost out of time is given this long all the same, in seconds.
ATTEMPT_MIN_S = 0.05

Effort = Call | Ask | Begin


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the loop may not decide: chance, and whether the lease still vouches for this leader.

    `called` is told of every call that has ended, `written` of every saga with new rows in the log, and of
    them. `pauses` are those in force.
    """

    chance: Callable[[], float]
    vouched: Callable[[], bool]
    called: Callable[[], None]
    written: Callable[[Saga, Sequence[Event]], None]
    pauses: Callable[[], Pauses] = lambda: NO_PAUSES


class Caller:
    """Calls participants for sagas of one shard under one epoch."""

    def __init__(
        self, shard: int, log: TermLog, participants: Participants, surroundings: Surroundings, metrics: Metrics
    ) -> None:
        self._shard = shard
        self._log = log
        self._participants = participants
        self._surroundings = surroundings
        self._metrics = metrics
        # prometheus_client looks a series up by its labels at a cost that shows on the hot path.
        self._series: dict[tuple[str, str, Kind, type], tuple[Counter, Histogram]] = {}

    async def perform(self, saga: Saga, effort: Call | Ask) -> Outcome:
        """Do what the saga asks for; what came of it. Raises Fenced when a later epoch has taken over."""
        step = saga.definition.step(effort.position)
        kind = Kind.ACTION if isinstance(effort, Ask) else effort.kind
        method = _method(saga, step, effort)
        # The intent has just been written under this epoch. If the lease cannot vouch that it still holds, because
        # etcd is away or this process was stopped meanwhile, the fence has to.
        if not self._surroundings.vouched():
            await self._log.prove()
        # Nothing is awaited from here to the call: one that begins after a pause was heeded is not made.
        pause = self._surroundings.pauses().holding(saga.definition.name, step.service)
        if pause is not None:
            return held_by(pause, self._surroundings.chance())
        try:
            request = method.request.evaluate(context(saga))
        except PointsNowhere as error:
            return Refused(NOT_TO_BE_MADE, str(error))
        invocation = Invocation(
            saga_id=saga.id,
            definition=saga.definition.name,
            version=saga.definition.version,
            step=step.name,
            service=step.service,
            method=method,
            kind=kind,
            attempt=effort.attempt,
            shard=self._shard,
            epoch=self._log.epoch,
            request=request,
            timeout_s=self._timeout_s(saga, step, effort.position),
            asks=isinstance(effort, Ask),
            answers_later=step.answers_later and kind is Kind.ACTION,
        )
        began_s = time.perf_counter()
        outcome = await self._participants.call(invocation)
        self._surroundings.called()
        self._observe(invocation, outcome, time.perf_counter() - began_s)
        return outcome

    def _timeout_s(self, saga: Saga, step: Step, position: int) -> float:
        """How long this attempt may take: no longer than the step has left."""
        cursor = saga.at(position)
        limit_at: datetime | None = None if cursor is None else cursor.limit_at
        if limit_at is None:
            return step.timeout_s
        return max(ATTEMPT_MIN_S, min(step.timeout_s, (limit_at - self._log.now()).total_seconds()))

    def _observe(self, invocation: Invocation, outcome: Outcome, took_s: float) -> None:
        key = (invocation.definition, invocation.step, invocation.kind, type(outcome))
        series = self._series.get(key)
        if series is None:
            labels = (invocation.definition, invocation.step, invocation.kind.value)
            count = self._metrics.steps.labels(*labels, type(outcome).__name__.lower())
            series = self._series[key] = (count, self._metrics.step_s.labels(*labels))
        series[0].inc()
        series[1].observe(took_s)


def _method(saga: Saga, step: Step, effort: Call | Ask) -> Method:
    method = step.action
    if isinstance(effort, Ask):
        method = step.status
    elif effort.kind is Kind.COMPENSATION:
        method = None if step.compensation is None else step.compensation.method
    if method is None:
        raise InvariantError(f"step {step.name} of saga {saga.id} calls nobody")
    return method
