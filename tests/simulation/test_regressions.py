"""What the simulation has found: one small scenario for each defect, kept after it was mended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from orchestrator.driving.driver import Driven, Driver, Surroundings
from orchestrator.driving.port import Invocation
from orchestrator.saga.commands import Outcome, Ready, Succeeded, Unknown
from orchestrator.saga.machine import Moment, decide
from orchestrator.saga.model import Saga, SagaId, SagaState
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import Claim
from orchestrator.simulation.clock import now_s, virtually
from orchestrator.telemetry import Metrics
from tests.unit.sagas import definition

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OURS = SagaId(UUID(int=1))


class Obliging:
    """Participants that do everything."""

    async def call(self, _: Invocation) -> Succeeded:
        await asyncio.sleep(0)
        return Succeeded({})

    def warm(self, services: Iterable[str]) -> None: ...


def test_a_retry_set_under_a_leader_whose_clock_is_an_hour_ahead_waits_no_longer_than_its_policy() -> None:
    """Seeds 32 and 233: a retry that was due an hour later by the clock of the former leader was waited for.

    All times of a saga are those of the log's clock since: no leader's own clock is asked.
    """

    async def scenario() -> float:
        store = MemorySagaLog(now_s)
        saga = Saga(OURS, definition(True, True), {}, {}, NOON)
        store.insert(Row(OURS, "test", 1, {}, {}, NOON))
        first = await store.raise_epoch(Claim(0, "r1", "c1", 1, "vacant"))
        assert first is not None
        lost: tuple[Outcome, ...] = (Ready(), Unknown("UNAVAILABLE", "gone"))
        for outcome in lost:
            saga, events = decide(saga, outcome, Moment(first.epoch, first.now(), 0.0))
            store.write(first.epoch, saga, events)
        term = await store.raise_epoch(Claim(0, "r2", "c1", 2, "gone"))
        assert term is not None
        began_s = now_s()
        surroundings = Surroundings(lambda: 0.0, lambda: True, lambda: None, lambda saga, events: None)
        driver = Driver(0, term, Obliging(), surroundings, Metrics("test", "r2"))
        await driver.drive(Driven(saga))
        assert store.rows[OURS].state is SagaState.COMPLETED
        return now_s() - began_s

    assert virtually(scenario) <= definition(True).step(1).retry.max_s
