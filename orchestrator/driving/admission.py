"""How sagas come to a leader: what the former one left, what is new, what is due, and what others tell them.

Everything is found by looking at the log, when somebody says that there may be something and from time to time. No
look grows with the sagas that wait: each is served by an index that holds nothing but what it looks for.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from orchestrator.driving import destinations
from orchestrator.driving.driver import Driven
from orchestrator.errors import LogUnavailable
from orchestrator.saga.model import SagaId
from orchestrator.saga.progress import wake_at
from orchestrator.sagalog.port import Heard, StoredSaga, StoredSignal, TermLog

if TYPE_CHECKING:
    from orchestrator.driving.looks import Look
    from orchestrator.driving.term import Means, Term

log = structlog.get_logger()

# The first page of the recovery scan is small, so that its sagas are driven at once; the pages then double.
FIRST_PAGE = 32
SCAN_AGAIN_S = 0.1

# So often it is asked when the next saga is due that this leader did not put to sleep itself, in seconds.
TIMERS_INTERVAL_S = 0.5
# Nobody waits for less: a wait that rounding makes no wait at all would be repeated for ever.
TIMERS_SLACK_S = 0.001
SIGNALS_PAGE = 500


class Admission:
    """Looks for the work of one term."""

    def __init__(self, term: Term, term_log: TermLog, means: Means) -> None:
        self._term = term
        self._log = term_log
        self._registry = means.registry
        self._settings = means.settings
        self._clocks = means.clocks
        self._metrics = means.metrics
        self._work = asyncio.Event()
        self._underway = asyncio.Event()
        # Sagas that were pending when they were taken up, until their first row is written.
        self._claimed: dict[SagaId, Driven] = {}
        # Sagas that sleep although somebody wants them undone, because they are past their pivot.
        self._past_cancelling: set[SagaId] = set()
        self._due_at = term_log.now()
        self._timers_asked_s = float("-inf")
        self._timers_put_off = False
        self._recovered = 0

    def wake(self) -> None:
        """Look at once."""
        self._work.set()

    def asleep(self, driven: Driven) -> None:
        """A saga has nothing to do until a time; it is not kept in memory meanwhile."""
        until = wake_at(driven.saga)
        if until is not None and until < self._due_at:
            self._due_at = until
            self._work.set()
        if driven.cancel_reason is not None and driven.saga.sealed:
            self._past_cancelling.add(driven.saga.id)
        else:
            self._past_cancelling.discard(driven.saga.id)

    async def listen(self) -> None:
        """Hear of new work; not before the first sagas are driven, since a connection takes time to make."""
        await self._underway.wait()
        await self._log.listen(self.wake)

    async def recover(self) -> None:
        """Drive what the former leader left, beginning before the last of it is read."""
        began_s = self._clocks.boottime_s()
        while True:
            try:
                await self._scan()
                break
            except LogUnavailable as error:
                log.warning("recovery_interrupted", epoch=self._term.epoch, error=str(error), reaction="scanning again")
                await asyncio.sleep(SCAN_AGAIN_S)
        took_s = self._clocks.boottime_s() - began_s
        self._metrics.recovery_s.observe(took_s)
        log.info("recovered", epoch=self._term.epoch, sagas=self._recovered, took_s=round(took_s, 4))

    async def _scan(self) -> None:
        """Take up every saga with something to do that this epoch has not written yet. May begin anew."""
        pages = self._log.unfinished(FIRST_PAGE, self._settings.recovery_page)
        while True:
            with self._term.looks.open() as look:
                page = await anext(pages, None)
                if page is None:
                    self._underway.set()
                    return
                for stored in page:
                    if self._term.driven(stored.id) is None and await self._term.take_up(look, stored) is not None:
                        self._recovered += 1
                        self._metrics.recovered_sagas.inc()
            self._underway.set()

    async def admit(self) -> None:
        """Look for cancellations, signals, what is due and what is pending, whenever there may be some.

        Not before the first sagas of the former leader are driven: these looks would hold up theirs.
        """
        await self._underway.wait()
        while True:
            self._work.clear()
            try:
                await self._hear_cancellations()
                await self._hear_signals()
                await self._wake_sleepers()
                if await self._claim_pending():
                    continue
            except LogUnavailable as error:
                log.warning("cannot_look_for_work", epoch=self._term.epoch, error=str(error))
                # What was due may not have been taken up. It is asked again soon, and not without a pause.
                self._timers_asked_s = float("-inf")
                await asyncio.sleep(SCAN_AGAIN_S)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s()):
                    await self._work.wait()

    def _patience_s(self) -> float:
        """How long to wait for news before looking again, in seconds."""
        left_s = (self._due_at - self._log.now()).total_seconds()
        if self._timers_put_off:
            left_s = min(left_s, self._timers_again_in_s())
        return max(0.0, min(self._settings.poll_interval_s, left_s))

    def _timers_again_in_s(self) -> float:
        """When timers that this leader knows nothing of may be asked for again, in seconds."""
        return self._timers_asked_s + TIMERS_INTERVAL_S - self._clocks.boottime_s()

    async def _claim_pending(self) -> bool:
        """Take up a page of pending sagas; True when there may be more, and room for them."""
        limit = min(self._term.room, self._settings.recovery_page)
        if limit <= 0:
            return False
        self._claimed = {saga_id: driven for saga_id, driven in self._claimed.items() if driven.saga.sequence == 0}
        with self._term.looks.open() as look:
            page = await self._log.pending(limit, list(self._claimed))
            for stored in page:
                driven = await self._term.take_up(look, stored)
                if driven is not None:
                    self._claimed[stored.id] = driven
        return len(page) == limit

    async def _hear_cancellations(self) -> None:
        asked = await self._log.cancellations()
        asleep: list[SagaId] = []
        for saga_id, reason in asked:
            driven = self._term.driven(saga_id)
            if driven is not None:
                driven.cancel(reason)
            elif saga_id not in self._past_cancelling:
                asleep.append(saga_id)
        if asleep:
            with self._term.looks.open() as look:
                for stored in await self._log.sagas(asleep):
                    due = stored.starts_at is None or stored.starts_at <= self._log.now()
                    if (not stored.events and due) or stored.cancel_reason is None:
                        continue  # Still pending: it is taken up as such, with its reason.
                    await self._take_up_again(look, stored)

    async def _hear_signals(self) -> None:
        """Tell sagas what the log has for them; those that sleep are woken for it."""
        after = 0
        while True:
            with self._term.looks.open() as look:
                page = await self._log.signals(after, SIGNALS_PAGE)
                await self._tell(look, page)
            if len(page) < SIGNALS_PAGE:
                return
            after = page[-1].id

    async def _tell(self, look: Look, page: list[StoredSignal]) -> None:
        found = await destinations.look_up(self._registry, [one.signal for one in page if one.signal is not None])
        asleep = {one.saga_id for one in page if one.signal and self._term.driven(one.saga_id) is None}
        taken: dict[SagaId, Driven] = {}
        for stored in await self._log.sagas(list(asleep)) if asleep else []:
            driven = await self._take_up_again(look, stored)
            if driven is not None:
                taken[stored.id] = driven
            elif look.trusted(stored.id):
                vain = [one.id for one in page if one.saga_id == stored.id]
                await self._log.refuse([Heard(number, "the rows of the saga cannot be understood") for number in vain])
        for one in page:
            signal = one.signal
            driven = taken.get(one.saga_id) or self._term.driven(one.saga_id)
            if signal is None:
                log.warning("signal_of_a_later_release", saga=str(one.saga_id), signal=one.id)
                continue
            way = None
            if driven is not None and signal.id in found:
                way = await destinations.route(self._registry, driven.saga, found[signal.id])
                driven = taken.get(one.saga_id) or self._term.driven(one.saga_id)
            if driven is not None and look.trusted(one.saga_id):
                driven.tell(signal, way)

    async def _wake_sleepers(self) -> None:
        """Find out when the next saga is due; then take up what is due.

        In this order: what becomes due between the two reads is found by the second, and the worst is a look too many.
        """
        self._timers_put_off = self._log.now() < self._due_at and self._timers_again_in_s() > TIMERS_SLACK_S
        if self._timers_put_off:
            return
        self._timers_asked_s = self._clocks.boottime_s()
        next_s = await self._log.next_due_s()
        patience_s = self._settings.poll_interval_s if next_s is None else next_s
        self._due_at = self._log.now() + timedelta(seconds=max(0.0, patience_s))
        pages = self._log.due(self._settings.recovery_page)
        while True:
            with self._term.looks.open() as look:
                page = await anext(pages, None)
                if page is None:
                    break
                for stored in page:
                    if self._term.driven(stored.id) is None:
                        await self._take_up_again(look, stored)

    async def _take_up_again(self, look: Look, stored: StoredSaga) -> Driven | None:
        """Take up a saga that slept; if the look is too old for that, look again."""
        driven = await self._term.take_up(look, stored)
        if driven is None and not look.trusted(stored.id):
            self._work.set()
        return driven
