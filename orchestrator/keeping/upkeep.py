"""The upkeep of the log: what a leader does beside driving sagas, for as long as its term lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from orchestrator.errors import Fenced, Retryable
from orchestrator.keeping.forgetting import Forgetting
from orchestrator.keeping.holding import Holding
from orchestrator.keeping.retention import Retention
from orchestrator.sagalog.port import TermLog
from orchestrator.sagalog.upkeep_port import UpkeepLog
from orchestrator.telemetry import Metrics

_FOLD_INTERVAL_S = 1.0
_HOLD_INTERVAL_S = 0.5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to be done again and again in a term, with a pause of `interval_s` seconds."""

    name: str
    interval_s: float
    work: Callable[[TermLog], Awaitable[object]]


class Upkeep:
    """All duties of a leader. `retention` is None where sagas are kept for ever; nothing is forgotten then either."""

    def __init__(
        self,
        upkeep_log: UpkeepLog,
        retention: Retention | None,
        forgetting: Forgetting | None,
        interval_s: float,
        metrics: Metrics,
        holding: Holding | None = None,
    ) -> None:
        self._log = upkeep_log
        self._metrics = metrics
        self._duties = [Duty("fold_tally", _FOLD_INTERVAL_S, self._fold)]
        if holding is not None:
            self._duties.append(Duty("hold_starts", _HOLD_INTERVAL_S, holding.look))
        if retention is not None:
            self._duties.append(Duty("retention", interval_s, retention.sweep))
        if forgetting is not None:
            self._duties.append(Duty("watermark", interval_s, forgetting.round))
        for duty in self._duties:
            # Shown from the first moment on: Prometheus misses the first step of a counter that begins with it.
            metrics.upkeep_failures.labels(duty.name)

    async def run(self, term: TermLog) -> None:
        """Do all duties until cancelled. Raises Fenced when a later epoch has taken over, in a group."""
        try:
            async with asyncio.TaskGroup() as group:
                for duty in self._duties:
                    group.create_task(self._repeat(duty, term))
        finally:
            await self._log.close()

    async def _repeat(self, duty: Duty, term: TermLog) -> None:
        while True:
            # First the pause: at the beginning of a term there is more urgent work.
            await asyncio.sleep(duty.interval_s)
            try:
                await duty.work(term)
            except Fenced:
                raise
            except (Retryable, OSError) as error:
                self._failed(duty)
                log.warning("upkeep_failed", duty=duty.name, error=str(error), reaction="again later")
            except Exception:
                # Catches everything: a defect of housekeeping must not end a term that drives sagas.
                self._failed(duty)
                log.exception("upkeep_defect", duty=duty.name)

    def _failed(self, duty: Duty) -> None:
        self._metrics.upkeep_failures.labels(duty.name).inc()

    async def _fold(self, term: TermLog) -> None:
        while await self._log.fold_tally(term.epoch):
            pass
