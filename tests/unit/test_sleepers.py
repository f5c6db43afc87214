"""Sagas that wait, as a leader has them: not in memory, and found at their time. On the model of the saga log."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import BuiltinFunctionType, FunctionType, ModuleType
from uuid import UUID

import pytest

from orchestrator.driving.leader import Leader
from orchestrator.driving.port import Answer, Invocation, Participants
from orchestrator.driving.registry import Compiled, Registry
from orchestrator.driving.term import Clocks, LeaderSettings, Means, Term
from orchestrator.saga.commands import Accepted, Unknown
from orchestrator.saga.definition import Definition
from orchestrator.saga.model import SagaId, SagaState
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import Claim
from orchestrator.telemetry import Metrics

from .sagas import Says, graph_definition

WITHIN_S = 120.0
FEW, MANY = 20, 120
BYTES_MAX = 200
RARELY_S = 3600.0


class One(Registry):
    """Knows one definition."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition

    async def get(self, name: str, version: int) -> Compiled:
        return Compiled(self._definition, {})

    def services(self) -> set[str]:
        return {"h:1"}


class Always:
    """Participants that give one answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def warm(self, services: Iterable[str]) -> None:
        """Nothing to connect to."""

    async def call(self, invocation: Invocation) -> Answer:
        return self._answer


class Mandate:
    """A victory that nobody contests."""

    claim = Claim(0, "r1", "c1", 1, "vacant")
    leader_lost_at_s = None

    def vouched(self) -> bool:
        return True

    async def confirm(self) -> bool:
        return True


@asynccontextmanager
async def leading(store: MemorySagaLog, definition: Definition, participants: Participants) -> AsyncIterator[Metrics]:
    """A leader that looks again of its own accord only after an hour."""
    metrics = Metrics("test", "r1")
    settings = LeaderSettings(shard=0, sagas_max=10_000, recovery_page=500, poll_interval_s=RARELY_S)
    clocks = Clocks(time.monotonic, lambda: 0.0)
    term = asyncio.create_task(
        Leader(store, Means(One(definition), participants, settings, clocks, metrics)).lead(Mandate())
    )
    try:
        yield metrics
    finally:
        term.cancel()
        await asyncio.gather(term, return_exceptions=True)


def row(store: MemorySagaLog, number: int, starts_in_s: float | None = None) -> Row:
    made = Row(SagaId(UUID(int=number)), "test", 1, {}, {}, store.now())
    if starts_in_s is None:
        return made
    starts_at = store.now() + timedelta(seconds=starts_in_s)
    return replace(made, starts_at=starts_at, wake_at=starts_at)


async def until_asleep(store: MemorySagaLog, metrics: Metrics) -> None:
    def asleep() -> bool:
        value = metrics.registry.get_sample_value
        leads = value("baton_recovery_seconds_count") == 1
        return (
            leads
            and value("baton_sagas_in_flight") == 0
            and all(one.wake_at is not None for one in store.rows.values())
        )

    async with asyncio.timeout(WITHIN_S):
        while not asleep():
            await asyncio.sleep(0.01)


def reached_bytes(root: object) -> int:
    """What an object keeps in memory with all that it leads to: but for code, the loop, and the model of the log."""
    beyond = (type, ModuleType, FunctionType, BuiltinFunctionType, asyncio.AbstractEventLoop, MemorySagaLog)
    seen, found = {id(root)}, [root]
    for one in found:
        for other in gc.get_referents(one):
            if id(other) not in seen and not isinstance(other, beyond):
                seen.add(id(other))
                found.append(other)
    return sum(sys.getsizeof(one) for one in found)


async def kept_bytes(sagas: int, step: Says, answer: Answer, starts_in_s: float | None) -> int:
    """What the term of a leader keeps in memory while so many sagas wait."""
    store = MemorySagaLog(time.monotonic)
    for number in range(sagas):
        store.insert(row(store, number, starts_in_s))
    async with leading(store, graph_definition(step), Always(answer)) as metrics:
        await until_asleep(store, metrics)
        # What a look has taken up it remembers until the next one.
        store.insert(row(store, sagas, starts_in_s))
        await until_asleep(store, metrics)
        gc.collect()
        (term,) = [one for one in gc.get_objects() if isinstance(one, Term)]
        return reached_bytes(term)


BACKOFF: Says = {"retry": {"attempts": 3, "initial": "1h", "max": "1h"}}
WAITS: dict[str, tuple[Says, Answer, float | None]] = {
    "delay": ({"delay": "1h"}, Accepted(), None),
    "start_at": ({"delay": "1h"}, Accepted(), RARELY_S),
    "approval": ({"approval": {}}, Accepted(), None),
    "answer_later": ({"answer": "later", "within": "1h"}, Accepted(), None),
    "backoff": (BACKOFF, Unknown("ABORTED", "not now"), None),
}


@pytest.mark.parametrize("waits", WAITS)
async def test_a_saga_that_waits_takes_next_to_no_memory_of_the_leader(waits: str) -> None:
    few, many = [await kept_bytes(sagas, *WAITS[waits]) for sagas in (FEW, MANY)]
    assert (many - few) / (MANY - FEW) < BYTES_MAX


async def test_a_start_that_is_due_soon_is_found_although_timers_were_just_looked_for() -> None:
    store = MemorySagaLog(time.monotonic)
    async with leading(store, graph_definition({"approval": {}}), Always(Accepted())) as metrics:
        store.insert(row(store, 1))
        await until_asleep(store, metrics)
        # Somebody says that there is something new; when it is due nobody says.
        store.insert(row(store, 2, starts_in_s=0.1))
        async with asyncio.timeout(WITHIN_S):
            while store.rows[SagaId(UUID(int=2))].state is SagaState.PENDING:
                await asyncio.sleep(0.01)


class Between(MemorySagaLog):
    """A store in which an hour passes while it is asked when the next saga is due."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        super().__init__(lambda: time.monotonic() + self.passed_s)

    def next_due_s(self) -> float | None:
        self.passed_s += RARELY_S
        return super().next_due_s()


async def test_what_becomes_due_while_the_leader_asks_is_taken_up_at_once() -> None:
    store = Between()
    store.insert(row(store, 1, starts_in_s=RARELY_S / 2))
    async with leading(store, graph_definition({"approval": {}}), Always(Accepted())), asyncio.timeout(WITHIN_S):
        while store.rows[SagaId(UUID(int=1))].state is SagaState.PENDING:
            await asyncio.sleep(0.01)
