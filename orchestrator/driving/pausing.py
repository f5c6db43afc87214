"""What a leader knows of the pauses of definitions and participants, and how it lets go on what they held.

The pauses in force are read after the epoch was raised and before anything is driven, and again and again from then on:
whoever pauses something waits until the leader says, in the log and under its fence, that it goes by it. From that row
on no call begins that the pause holds, under this epoch or a later one.

When a pause has ended, what is being driven looks again at once, and what sleeps is taken up, page by page; then it is
said in the log that the pause is released. What was taken up may not have written yet that it goes on when its leader
dies: so a new leader does the same once more for what was released lately, for as long as anything held may sleep.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from orchestrator.errors import LogUnavailable
from orchestrator.saga.pausing import HOLD_MOST_S, NO_PAUSES, PauseKind, Pauses
from orchestrator.sagalog.port import StoredPause, TermLog

if TYPE_CHECKING:
    from orchestrator.driving.term import Means, Term

log = structlog.get_logger()

# A leader looks so often for pauses that others have stored or ended, in seconds.
LOOK_INTERVAL_S = 0.5
_AGAIN_S = 0.1

# What is held sleeps for HOLD_MOST_S at the most by the clock of the log, which this process may read a little late.
_HELD_WITHIN = timedelta(seconds=HOLD_MOST_S + 60)


class Pausing:
    """The pauses of one term."""

    def __init__(self, term: Term, term_log: TermLog, means: Means) -> None:
        self.known: Pauses = NO_PAUSES
        self._term = term
        self._log = term_log
        self._page = means.settings.recovery_page
        self._metrics = means.metrics
        self._comes_back = means.comes_back
        # What is gone by, and no leader has said so yet.
        self._unheeded: list[StoredPause] = []
        # What has ended and is being let go on, and what this leader has let go on; the event says that there is some.
        self._ended: list[StoredPause] = []
        self._released: set[UUID] = set()
        self._some_ended = asyncio.Event()

    async def learn(self) -> None:
        """Read what is in force. Nothing is to be driven before."""
        while True:
            try:
                await self._look()
                return
            except LogUnavailable as error:
                log.warning("cannot_read_pauses", epoch=self._term.epoch, error=str(error), reaction="driving nothing")
                await asyncio.sleep(_AGAIN_S)

    async def run(self) -> None:
        """Go by the pauses that there are, and say so, until cancelled. Raises Fenced."""
        while True:
            if self._unheeded:
                await self._log.heed_pauses([stored.pause.id for stored in self._unheeded], ())
                for stored in self._unheeded:
                    log.warning("paused", pause=str(stored.pause), epoch=self._term.epoch)
                self._unheeded = []
            await asyncio.sleep(LOOK_INTERVAL_S)
            try:
                await self._look()
            except LogUnavailable as error:
                log.warning("cannot_read_pauses", epoch=self._term.epoch, error=str(error), reaction="going by the old")

    async def release(self) -> None:
        """Let go on what was held by pauses that have ended, until cancelled. Raises Fenced."""
        while True:
            await self._some_ended.wait()
            self._some_ended.clear()
            ended = self._ended
            try:
                taken_up = await self._take_up_held()
            except LogUnavailable as error:
                log.warning("cannot_release", epoch=self._term.epoch, error=str(error), reaction="looking again")
                self._some_ended.set()
                await asyncio.sleep(_AGAIN_S)
                continue
            self._released.update(stored.pause.id for stored in ended)
            await self._log.heed_pauses((), [stored.pause.id for stored in ended])
            for stored in ended:
                log.info("pause_released", pause=str(stored.pause), by=stored.resumed_by, sagas=taken_up)

    async def _look(self) -> None:
        """Go by what the log says from now on."""
        stored = await self._log.pauses()
        in_force = [one for one in stored if one.resumed_at is None]
        self.known = Pauses(one.pause for one in in_force)
        for kind in PauseKind:
            self._metrics.pauses.labels(kind.value).set(self.known.count(kind))
        self._unheeded = [one for one in in_force if one.heeded_at is None]
        self._released &= {one.pause.id for one in stored}
        self._end([one for one in stored if one.resumed_at is not None and one.pause.id not in self._released])

    def _end(self, ended: list[StoredPause]) -> None:
        before = {one.pause.id for one in self._ended}
        fresh = [one for one in ended if one.pause.id not in before]
        self._ended = ended
        if not fresh:
            return
        for one in fresh:
            if one.pause.kind is PauseKind.PARTICIPANT:
                self._comes_back(one.pause.name)
        # No order of these two loses anything: what falls asleep from here on does so by what is known now.
        self._term.look_again()
        self._some_ended.set()

    async def _take_up_held(self) -> int:
        """Take up what sleeps because of a pause; whoever drives it finds out whether it may go on."""
        taken_up = 0
        pages = self._log.held(self._log.now() + _HELD_WITHIN, self._page)
        while True:
            with self._term.looks.open() as look:
                page = await anext(pages, None)
                if page is None:
                    return taken_up
                for stored in page:
                    if self._term.driven(stored.id) is None and await self._term.take_up(look, stored) is not None:
                        taken_up += 1
