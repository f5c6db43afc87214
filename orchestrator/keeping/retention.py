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
from orchestrator.sagalog.upkeep_port import Ended, FinishedPage, FinishedSaga, UpkeepLog
from orchestrator.telemetry import Metrics

# A sweep works at most this share of the time.
_SHARE = 0.25
# Sagas with large inputs and results go in smaller batches: so many bytes, as they lie in the log.
_BATCH_BYTES_MAX = 2_000_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long finished sagas are kept, in seconds, and how many are removed by one statement.

    What had to stay is looked at again for at most `again_max_s` seconds in one sweep.
    """

    after_s: float
    batch: int
    again_max_s: float = 60.0


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
        # What ended up to here has been looked at, and went, or had to stay; and how far of that was looked at again.
        self._reached: Ended | None = None
        self._again: Ended | None = None

    async def sweep(self, term: TermLog) -> int:
        """Let everything go that is due; how many sagas went. Raises Fenced, Retryable, OSError.

        First what has become due since the last sweep, then what was due before and had to stay: so whatever is held
        back, and for however long, keeps nothing waiting. Each saga is looked at once.
        """
        known = self._reached
        removed, more = 0, True
        while more:
            page, gone = await self._page(self._reached, None, term)
            self._reached, more = page.last or self._reached, page.more
            removed += gone
        if known is not None:
            removed += await self._look_again(known, term)
        if removed:
            log.info("sagas_removed", sagas=removed, archived=self._archive is not None, epoch=term.epoch)
        return removed

    async def _look_again(self, until: Ended, term: TermLog) -> int:
        """Let go what may go by now of what had to stay: as far as the time goes; the next sweep goes on from there."""
        give_up_at_s = time.monotonic() + self._settings.again_max_s
        removed = 0
        while True:
            page, gone = await self._page(self._again, until, term)
            removed += gone
            self._again = page.last if page.more else None
            if not page.more or time.monotonic() >= give_up_at_s:
                return removed

    async def _page(self, behind: Ended | None, until: Ended | None, term: TermLog) -> tuple[FinishedPage, int]:
        """Look at a page, and let go what may go of it: how many went. Then rest, if there are more pages."""
        began_s = time.monotonic()
        page = await self._log.finished(behind, until, self._settings.after_s, self._settings.batch)
        kept = await self._keepers.kept([saga.id for saga in page.over]) if page.over else ()
        removed = 0
        for batch in _batches([saga for saga in page.over if saga.id not in kept]):
            removed += await self._let_go(batch, term)
        if page.more:
            await asyncio.sleep((time.monotonic() - began_s) * (1 / _SHARE - 1))
        return page, removed

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
