"""What the benchmarks of a leader share: Postgres, a participant that answers at once, and a leader in this process."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc

from orchestrator.config import Settings
from orchestrator.driving.grpc_edge import CallSettings, GrpcParticipants
from orchestrator.driving.leader import Leader
from orchestrator.driving.port import Participants
from orchestrator.driving.reflection import describe
from orchestrator.driving.registry import Registry
from orchestrator.driving.term import Clocks, LeaderSettings, Means
from orchestrator.embedded.loopback import free_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, inherited_environment
from orchestrator.saga.events import Event
from orchestrator.saga.model import Saga
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.port import Claim, StoredDefinition
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.sagalog.term import boottime_s
from orchestrator.telemetry import Metrics
from orchestrator.tracing.assemble import Tracing

_READY_S = 20

# Is told of every saga with new rows in the log, and of them.
Written = Callable[[Saga, Sequence[Event]], None]


class OneDefinition:
    """A definition store that holds the one definition of the benchmark."""

    stored: StoredDefinition | None = None

    async def get_definition(self, name: str, version: int) -> StoredDefinition | None:
        return self.stored

    async def insert_definition(
        self, name: str, content_hash: str, yaml: str, descriptor_set: bytes
    ) -> tuple[StoredDefinition, bool]:
        self.stored = StoredDefinition(name, 1, content_hash, yaml, descriptor_set, datetime.now(UTC))
        return self.stored, False


class Victorious:
    """A mandate that nobody contests."""

    leader_lost_at_s = None

    def __init__(self, revision: int) -> None:
        self.claim = Claim(0, "benchmark", "benchmark", revision, "vacant")

    def vouched(self) -> bool:
        return True

    async def confirm(self) -> bool:
        return True


class Rig:
    """A leader on the real log and the real participant, or `stand_in` for it, with nobody else who would lead."""

    def __init__(
        self,
        dsn: str,
        calls: CallSettings,
        batch_max: int,
        sagas_max: int,
        written: Written = lambda saga, events: None,
        tracing: Tracing | None = None,
        stand_in: Participants | None = None,
    ) -> None:
        self.metrics = Metrics("benchmark", "benchmark")
        self.registry = Registry(OneDefinition(), describe)
        self._log = PostgresSagaLog(LogSettings(dsn, "benchmark", 0, 10.0, 0.2, 10.0, batch_max), self.metrics)
        self._participants = GrpcParticipants(self.registry.codec, calls, self.metrics)
        settings = LeaderSettings(shard=0, sagas_max=sagas_max, recovery_page=500, poll_interval_s=1.0)
        clocks = Clocks(boottime_s, random.random)
        # Off, it hands everything on as it is.
        traced = tracing or Tracing(Settings(), self.metrics)
        participants = traced.around(stand_in or self._participants)
        means = Means(self.registry, participants, settings, clocks, self.metrics, written, restored=traced.restored)
        self._leader = Leader(self._log, means)

    async def lead_until_finished(self, sagas: int) -> None:
        """Lead one term until so many sagas have completed."""
        async with self.leading() as term:
            while finished(self.metrics) < sagas:
                if term.done():
                    term.result()
                await asyncio.sleep(0.005)

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[asyncio.Task[None]]:
        """Lead one term meanwhile."""
        # What a standby has open before it wins.
        await self._log.reachable()
        self._participants.warm(self.registry.services())
        term = asyncio.create_task(self._leader.lead(Victorious(time.time_ns() // 1_000_000)))
        try:
            yield term
        finally:
            term.cancel()
            await asyncio.gather(term, return_exceptions=True)
            await self._participants.close()


def finished(metrics: Metrics) -> float:
    """The sagas that ended; all must have completed."""
    samples = [s for family in metrics.sagas_finished.collect() for s in family.samples if s.name.endswith("_total")]
    if any(sample.labels["state"] != "COMPLETED" for sample in samples):
        sys.exit("a saga of the benchmark did not complete: see the log")
    return sum(sample.value for sample in samples)


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """The DSN of a migrated saga log on a Postgres with fsync, and the address of a participant."""
    with tempfile.TemporaryDirectory(prefix="baton-benchmark-") as folder, Postgres(Path(folder) / "pg") as postgres:
        dsn = postgres.create_database("baton")
        migrate(dsn)
        (port,) = free_ports(1)
        environment = {**inherited_environment("PARTICIPANT_"), "PARTICIPANT_LISTEN": f"127.0.0.1:{port}"}
        argv = [sys.executable, "-m", "participants", "echo"]
        participant = Process("echo", argv, environment, Path(folder) / "echo.log")
        participant.start()
        try:
            address = f"127.0.0.1:{port}"
            with grpc.insecure_channel(address) as channel:
                grpc.channel_ready_future(channel).result(timeout=_READY_S)
            yield dsn, address
        finally:
            participant.stop()
