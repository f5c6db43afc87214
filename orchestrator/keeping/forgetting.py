"""Tells participants up to which saga they may forget: the rows of their barriers are good for sagas that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from orchestrator.errors import Retryable
from orchestrator.keeping.port import Barriers, Watermark
from orchestrator.saga.model import SagaId
from orchestrator.saga.pausing import Pauses
from orchestrator.sagalog.port import TermLog
from orchestrator.sagalog.upkeep_port import UpkeepLog
from orchestrator.telemetry import Metrics

_CALL_S = 5.0
# A participant that has much to forget is asked again, and left alone in between, in seconds.
_PAUSE_S = 0.05
_CALLS_MAX = 1_000

_NOTHING = 0

log = structlog.get_logger()


class Forgetting:
    """Raises the watermark, and tells the participants whose addresses `services` gives. Times are in seconds."""

    def __init__(
        self,
        upkeep_log: UpkeepLog,
        barriers: Barriers,
        services: Callable[[], Iterable[str]],
        shard: int,
        margin_s: float,
        metrics: Metrics,
    ) -> None:
        self._log = upkeep_log
        self._barriers = barriers
        self._services = services
        self._shard = shard
        self._margin_s = margin_s
        self._metrics = metrics
        # Up to where each participant has forgotten everything, as far as this replica knows.
        self._told: dict[str, SagaId] = {}

    async def round(self, term: TermLog) -> None:
        """Raise the watermark if that is due, and tell whoever does not know it. Raises Fenced, LogUnavailable."""
        before = await self._log.raise_watermark(self._margin_s, term.epoch)
        if before.int == _NOTHING:
            return
        self._metrics.watermark_s.set((before.int >> 80) / 1000)
        # Whoever is paused is not called for this either.
        pauses = Pauses(one.pause for one in await term.pauses() if one.resumed_at is None)
        called = [service for service in sorted(self._services()) if pauses.holding("", service) is None]
        behind = [service for service in called if self._told.get(service) != before]
        # One after the other: a participant that is away costs this round a call's time, and the others nothing.
        for service in behind:
            try:
                await self._tell(service, Watermark(before, self._shard, term.epoch))
            except Retryable as error:
                log.info("participant_not_told", participant=service, error=str(error), reaction="the next round tells")

    async def _tell(self, service: str, watermark: Watermark) -> None:
        for _ in range(_CALLS_MAX):
            purged = await self._barriers.purge(service, watermark, _CALL_S)
            if purged is None:
                log.info("participant_keeps_its_barrier", participant=service, reason="it offers no Purge")
                break
            self._metrics.barrier_rows_purged.labels(service).inc(purged.removed)
            if purged.done:
                break
            await asyncio.sleep(_PAUSE_S)
        else:
            return
        self._told[service] = watermark.before
