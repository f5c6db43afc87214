"""The door of one replica for new sagas: looks at the gauges again and again; refuses starts while it is shut."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Protocol

import structlog

from orchestrator.errors import Overloaded
from orchestrator.pressure import memory
from orchestrator.pressure.judge import Cause, Limits, explain, judge, retry_delay_s
from orchestrator.sagalog.strain import Backlog
from orchestrator.telemetry import Metrics

_LOOK_S = 0.1
# Postgres said so long ago, in seconds, that its disk is full: the next start may try.
_DISK_AGAIN_S = 2.0

log = structlog.get_logger()


class Strain(Protocol):
    """How Postgres bears its load; times are in seconds."""

    @property
    def backlog(self) -> Backlog | None:
        """Sagas that wait to be begun; None before the first count."""

    @property
    def commit_s(self) -> float | None:
        """The time of a commit; None before it is known."""

    @property
    def absent_s(self) -> float:
        """How long no write was taken."""


class Queue(Protocol):
    """The replica's intake."""

    @property
    def waiting(self) -> int:
        """Starts that wait for their commit."""

    @property
    def disk_full_at_s(self) -> float:
        """When Postgres said last, by the monotonic clock, that it has no room."""


class Door:
    """Ask `admit` for each start; `run` keeps it up to date."""

    def __init__(self, limits: Limits, strain: Strain, queue: Queue, metrics: Metrics) -> None:
        self._limits = limits
        self._strain = strain
        self._queue = queue
        self._metrics = metrics
        self._readings: Mapping[Cause, float] = {}
        self._shut_by: frozenset[Cause] = frozenset()
        self._shut_at_s = 0.0
        self._trim = memory.Trim()
        for cause in Cause:
            metrics.pressure.labels(cause.value).set(0)

    def admit(self) -> None:
        """Return if new sagas are taken. Raises Overloaded, which says why not, and when to ask again."""
        if self._shut_by:
            self._metrics.starts_refused.inc()
            shut_for_s = time.monotonic() - self._shut_at_s
            delay_s = retry_delay_s(self._shut_by, shut_for_s, random.random())
            raise Overloaded(explain(self._shut_by, self._readings, self._limits), delay_s)

    async def run(self) -> None:
        """Look at the gauges until cancelled."""
        while True:
            self.look()
            if Cause.MEMORY in self._shut_by:
                await self._trim.run_if_due()
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Measure, decide, and tell."""
        before = self._shut_by
        self._readings = self._measure()
        self._shut_by = judge(before, self._readings, self._limits)
        for cause in before ^ self._shut_by:
            self._metrics.pressure.labels(cause.value).set(1 if cause in self._shut_by else 0)
        if self._shut_by and not before:
            self._shut_at_s = time.monotonic()
            log.warning("starts_refused", reason=explain(self._shut_by, self._readings, self._limits))
        elif before and not self._shut_by:
            log.info("starts_taken_again", after_s=round(time.monotonic() - self._shut_at_s, 1))

    def _measure(self) -> dict[Cause, float]:
        now_s = time.monotonic()
        readings = {
            Cause.QUEUE: float(self._queue.waiting),
            Cause.POSTGRES: self._strain.absent_s,
            Cause.DISK: 1.0 if now_s - self._queue.disk_full_at_s < _DISK_AGAIN_S else 0.0,
            Cause.MEMORY: float(memory.held_bytes()),
        }
        if (backlog := self._strain.backlog) is not None:
            readings[Cause.BACKLOG] = float(backlog.sagas)
            readings[Cause.AGE] = backlog.age_s
        if (commit_s := self._strain.commit_s) is not None:
            readings[Cause.COMMIT] = commit_s
        return readings
