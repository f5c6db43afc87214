"""Retention: finished sagas leave the log after a set time, archived first, a small batch at a time.

What is live, or failed and not resolved, is never touched: the statement that removes says so itself, under the fence.
A sweep takes a share of the time at most, so that whoever drives sagas hardly notices.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from orchestrator.keeping.archive import Archive
from orchestrator.keeping.lines import lines
from orchestrator.keeping.port import Keepers
from orchestrator.sagalog.port import TermLog
from orchestrator.sagalog.upkeep_port import FinishedSaga, UpkeepLog
from orchestrator.telemetry import Metrics

# A sweep works at most this share of the time.
_SHARE = 0.25
# Sagas with large inputs and results go in smaller batches: so many bytes, as they lie in the log.
_BATCH_BYTES_MAX = 2_000_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long finished sagas are kept, in seconds, and how many are removed by one statement."""

    after_s: float
    batch: int


class Retention:
    """Sweeps the log. Without an archive what is removed is gone."""

    def __init__(
        self,
        settings: RetentionSettings,
        upkeep_log: UpkeepLog,
        archive: Archive | None,
        keepers: Keepers,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._log = upkeep_log
        self._archive = archive
        self._keepers = keepers
        self._metrics = metrics

    async def sweep(self, term: TermLog) -> int:
        """Let everything go that is due; how many sagas went. Raises Fenced, Retryable, OSError."""
        removed = 0
        after = None
        while True:
            began_s = time.monotonic()
            page = await self._log.finished(after, self._settings.after_s, self._settings.batch)
            kept = await self._keepers.kept([saga.id for saga in page.over]) if page.over else ()
            for batch in _batches([saga for saga in page.over if saga.id not in kept]):
                removed += await self._let_go(batch, term)
            if page.last is None:
                break
            after = page.last
            await asyncio.sleep((time.monotonic() - began_s) * (1 / _SHARE - 1))
        if removed:
            log.info("sagas_removed", sagas=removed, archived=self._archive is not None, epoch=term.epoch)
        return removed

    async def _let_go(self, batch: Sequence[FinishedSaga], term: TermLog) -> int:
        if self._archive is not None:
            batch = await self._archived(self._archive, batch)
        term.forget({saga.id for saga in batch})
        removed = await self._log.remove(batch, self._settings.after_s, term.epoch) if batch else []
        self._metrics.sagas_removed.inc(len(removed))
        return len(removed)

    async def _archived(self, archive: Archive, batch: Sequence[FinishedSaga]) -> list[FinishedSaga]:
        """Those of `batch` that are in the archive as they were read. They are on the disk when this returns."""
        records = await self._log.sagas([saga.id for saga in batch])
        as_read = {saga.id: saga.sequence for saga in batch}
        records = [record for record in records if as_read[record.id] == record.sequence]
        await asyncio.to_thread(archive.begin)
        try:
            async with aclosing(self._log.history(records)) as history, aclosing(lines(records, history)) as pieces:
                async for piece in pieces:
                    await asyncio.to_thread(archive.write, piece)
            await asyncio.to_thread(archive.sync)
        except BaseException:
            archive.abandon()
            raise
        there = {record.id for record in records}
        return [saga for saga in batch if saga.id in there]


def _batches(sagas: Sequence[FinishedSaga]) -> Iterator[list[FinishedSaga]]:
    """The sagas in batches of a bounded size, each of one saga at least."""
    batch: list[FinishedSaga] = []
    size_bytes = 0
    for saga in sagas:
        if batch and size_bytes + saga.size_bytes > _BATCH_BYTES_MAX:
            yield batch
            batch, size_bytes = [], 0
        batch.append(saga)
        size_bytes += saga.size_bytes
    if batch:
        yield batch
