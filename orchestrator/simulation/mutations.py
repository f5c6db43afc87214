"""Worlds that are wrong in one thing, each breaking one rule of the design: the simulation must find every one of them.

They are wrapped around the ports; production code knows nothing of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from orchestrator.driving.port import Answer, Invocation, Participants
from orchestrator.saga.commands import Refused, Unknown
from orchestrator.saga.events import Event
from orchestrator.saga.model import Saga
from orchestrator.sagalog.port import Claim, Heard, SagaLog, StoredPause, StoredSaga, TermLog
from orchestrator.simulation.core_mutations import CORE
from orchestrator.simulation.later import LaterRules
from orchestrator.simulation.postgres import Fencing
from orchestrator.simulation.stage import Mutation


class _Hasty:
    """R7 broken: what is unknown counts as failed."""

    def __init__(self, participants: Participants) -> None:
        self._participants = participants

    async def call(self, invocation: Invocation) -> Answer:
        outcome = await self._participants.call(invocation)
        return Refused(outcome.code, outcome.message) if isinstance(outcome, Unknown) else outcome

    def warm(self, services: Iterable[str]) -> None:
        self._participants.warm(services)


class _Wrapped:
    """A log whose terms are wrong in something."""

    def __init__(self, log: SagaLog, wrong: Callable[[TermLog], TermLog]) -> None:
        self._log = log
        self._wrong = wrong

    async def raise_epoch(self, claim: Claim) -> TermLog | None:
        term = await self._log.raise_epoch(claim)
        return None if term is None else self._wrong(term)

    async def raise_epoch_again(self, claim: Claim) -> TermLog:
        return self._wrong(await self._log.raise_epoch_again(claim))

    async def reachable(self) -> bool:
        return await self._log.reachable()


def _early(term: TermLog) -> TermLog:
    """R4 broken: a transition is said to be durable before it is."""

    class Early:
        """Everything but `append` is the real log's."""

        def __getattr__(self, name: str) -> Any:
            return getattr(term, name)

        async def append(self, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> None:
            asyncio.ensure_future(term.append(saga, events, heard)).add_done_callback(_heard)

    return Early()


def _heedless(term: TermLog) -> TermLog:
    """A leader says that it goes by a pause, and does not."""

    class Heedless:
        """Everything but `pauses` is the real log's."""

        def __getattr__(self, name: str) -> Any:
            return getattr(term, name)

        async def pauses(self) -> list[StoredPause]:
            return [replace(one, pause=replace(one.pause, name="nobody")) for one in await term.pauses()]

    return Heedless()


def _unwoken(term: TermLog) -> TermLog:
    """Nobody wakes what a pause has held when it ends."""

    class Unwoken:
        """Everything but `held` is the real log's."""

        def __getattr__(self, name: str) -> Any:
            return getattr(term, name)

        async def held(self, until: datetime, page: int) -> AsyncGenerator[list[StoredSaga]]:
            none: list[list[StoredSaga]] = []
            for several in none:
                yield several

    return Unwoken()


def _heard(done: Any) -> None:
    if not done.cancelled():
        done.exception()


MUTATIONS: dict[str, Mutation] = {
    "no-fence": Mutation(fencing=Fencing.NONE),
    "fence-by-exists": Mutation(fencing=Fencing.EXISTS),
    "no-tombstone": Mutation(rules=LaterRules(tombstone=False)),
    "no-idempotency": Mutation(rules=LaterRules(idempotency=False)),
    "unknown-is-failure": Mutation(wrap_participants=_Hasty),
    "no-intent": Mutation(wrap_log=lambda log: _Wrapped(log, _early)),
    "pause-not-heeded": Mutation(wrap_log=lambda log: _Wrapped(log, _heedless)),
    "pause-not-released": Mutation(wrap_log=lambda log: _Wrapped(log, _unwoken)),
    "answer-not-withdrawn": Mutation(rules=LaterRules(withdraw=False)),
    **{name: Mutation(core=core) for name, core in CORE.items()},
}
