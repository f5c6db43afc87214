"""A leader on the model of the saga log, with participants that do as they are told, and the terms that it leads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from orchestrator.driving.leader import Leader
from orchestrator.driving.port import Invocation
from orchestrator.driving.registry import Compiled, Registry
from orchestrator.driving.term import Clocks, LeaderSettings, Means
from orchestrator.errors import NotFound
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.definition import Definition
from orchestrator.saga.model import SagaId, SagaState
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import Claim
from orchestrator.telemetry import Metrics

from .sagas import definition

Outcome = Succeeded | Refused | Unknown


class Definitions(Registry):
    """Knows version 1 of one definition, of three steps unless told otherwise."""

    def __init__(self, known: Definition | None = None) -> None:
        self._definition = known or definition(True, True, True)

    async def get(self, name: str, version: int) -> Compiled:
        if (name, version) != ("test", 1):
            raise NotFound(f"there is no version {version} of definition {name!r}")
        return Compiled(self._definition, {})

    def services(self) -> set[str]:
        return {"h:1"}


@dataclass
class Participants:
    """Answers by `answer`; remembers every call."""

    answer: Callable[[Invocation], Awaitable[Outcome]]
    calls: list[Invocation] = field(default_factory=list)

    def warm(self, services: Iterable[str]) -> None:
        assert set(services) == {"h:1"}

    async def call(self, invocation: Invocation) -> Outcome:
        self.calls.append(invocation)
        return await self.answer(invocation)


@dataclass
class Mandate:
    claim: Claim
    held: bool = True
    confirmed: bool = True
    leader_lost_at_s: float | None = None

    def vouched(self) -> bool:
        return self.held

    async def confirm(self) -> bool:
        return self.confirmed


async def succeed(_: Invocation) -> Outcome:
    await asyncio.sleep(0)
    return Succeeded({"ok": True})


def mandate(revision: int = 1) -> Mandate:
    return Mandate(Claim(0, "r1", "c1", revision, "vacant"))


def saga_id(number: int) -> SagaId:
    return SagaId(UUID(int=number))


def stored(number: int, version: int = 1) -> Row:
    return Row(saga_id(number), "test", version, {}, {}, datetime.now(UTC))


def leader(
    store: MemorySagaLog,
    participants: Participants,
    sagas_max: int = 100,
    metrics: Metrics | None = None,
    known: Definition | None = None,
) -> Leader:
    settings = LeaderSettings(shard=0, sagas_max=sagas_max, recovery_page=10, poll_interval_s=0.05)
    clocks = Clocks(time.monotonic, lambda: 0.5)
    return Leader(store, Means(Definitions(known), participants, settings, clocks, metrics or Metrics("test", "r1")))


@asynccontextmanager
async def leading(leader: Leader, revision: int = 1) -> AsyncIterator[asyncio.Task[None]]:
    term = asyncio.create_task(leader.lead(mandate(revision)))
    try:
        yield term
    finally:
        term.cancel()
        await asyncio.gather(term, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def states(store: MemorySagaLog) -> list[SagaState]:
    return [row.state for row in store.rows.values()]
