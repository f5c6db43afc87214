"""The API of one replica, wired as in the real one, with stand-ins for its campaign and its participants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from orchestrator.api.server import ApiParts, ApiServer, ApiSettings
from orchestrator.api.watcher import Watcher
from orchestrator.driving.port import Answer, Invocation
from orchestrator.driving.reflection import describe
from orchestrator.driving.registry import Registry
from orchestrator.driving.veil import Veils
from orchestrator.events.streams import EventStreams
from orchestrator.leadership.board import Holder
from orchestrator.leadership.port import LeaseId, Member
from orchestrator.leadership.victory import View
from orchestrator.saga.commands import Succeeded
from orchestrator.saga.model import Kind
from orchestrator.sagalog.certificates import PostgresCertificates
from orchestrator.sagalog.definitions import PostgresDefinitions
from orchestrator.sagalog.events import PostgresEvents
from orchestrator.sagalog.intake import Intake, IntakeSettings
from orchestrator.sagalog.pauses import PostgresPauses
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.reader import Reader
from orchestrator.sagalog.signal_box import SignalBox
from orchestrator.sagalog.start_holds import PostgresStartHolds
from orchestrator.telemetry import Metrics

# Longer than this machine stands still when everybody wants it.
TIMEOUT_S = 10.0


def member(replica_id: str, api_address: str = "") -> Member:
    """A replica as it stands in etcd."""
    return Member(replica_id, "i", "127.0.0.1:1", api_address, "127.0.0.1:1", 1, "0")


@dataclass
class Leadership:
    """What a campaign tells the API; `resigned` has the reasons for which it was told to step down."""

    replica_id: str = "r1"
    holder: Member | None = None
    resigned: list[str] = field(default_factory=list)

    @property
    def view(self) -> View:
        """The holder, if there is one, and whether it is this replica."""
        holder = None if self.holder is None else Holder(self.holder, 1, LeaseId(1))
        return View(holder, self._leads, 1.5, None)

    @property
    def _leads(self) -> bool:
        return self.holder is not None and self.holder.replica_id == self.replica_id

    def members(self) -> tuple[Member, ...]:
        """The holder alone."""
        return () if self.holder is None else (self.holder,)

    async def resign(self, reason: str, cooldown_s: float) -> bool:
        """Step down, if this replica leads."""
        if not self._leads:
            return False
        self.holder = None
        self.resigned.append(reason)
        return True


@dataclass
class Door:
    """Whether new sagas are taken: what the test puts here is asked."""

    admit: Callable[[], None] = lambda: None


@dataclass
class Served:
    """A running API server and what it is made of."""

    server: ApiServer
    port: int
    registry: Registry
    metrics: Metrics
    wakes: list[None]
    door: Door
    events: PostgresEvents


@asynccontextmanager
async def serving(
    dsn: str, leadership: Leadership | None = None, listen: str = "127.0.0.1:0", timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Served]:
    """Serve the API of one replica, wired as in the real one; `timeout_s` is its patience with Postgres."""
    metrics = Metrics("test", "r1")
    wakes: list[None] = []
    pool = Pool(dsn, "baton-reads-0-r1", 8, timeout_s, metrics)
    reader, definitions = Reader(pool, 0), PostgresDefinitions(pool)
    certificates = PostgresCertificates(pool)
    registry = Registry(definitions, describe, certificates.certificates)
    intake = Intake(IntakeSettings(dsn, "r1", 0, timeout_s, 4000), metrics, lambda: wakes.append(None))
    watcher = Watcher(reader)
    leadership = leadership or Leadership()
    door = Door()
    events = PostgresEvents(pool, 0, Veils(registry).event)
    streams = EventStreams(events, metrics)
    parts = ApiParts(
        registry,
        intake,
        reader,
        SignalBox(pool),
        definitions,
        leadership,
        watcher,
        certificates,
        events,
        streams,
        PostgresStartHolds(pool, 0),
        PostgresPauses(pool, 0),
        lambda: door.admit(),
    )
    server = ApiServer(ApiSettings("test", leadership.replica_id, listen, 1_000_000, 4_000_000), parts)
    running = [asyncio.create_task(part.run()) for part in (intake, watcher, streams)]
    try:
        yield Served(server, await server.start(), registry, metrics, wakes, door, events)
    finally:
        await server.stop(1.0)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await pool.close()


@dataclass
class ObedientParticipants:
    """Answers each step's action as told, a success if nothing was told; compensations succeed."""

    answers: dict[str, Answer] = field(default_factory=dict)
    # What is said to compensations, by step.
    undone: dict[str, Answer] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)
    _held: dict[str, asyncio.Event] = field(default_factory=dict)

    def hold(self, step: str) -> None:
        """Let calls of this step wait until `release`."""
        self._held[step] = asyncio.Event()

    def release(self, step: str) -> None:
        """Let them go on."""
        self._held[step].set()

    def warm(self, services: Iterable[str]) -> None:
        """Nothing to connect to."""

    async def call(self, invocation: Invocation) -> Answer:
        """Answer."""
        self.called.append(invocation.step)
        if invocation.step in self._held:
            await self._held[invocation.step].wait()
        if invocation.kind is Kind.ACTION and invocation.step in self.answers:
            return self.answers[invocation.step]
        if invocation.kind is Kind.COMPENSATION and invocation.step in self.undone:
            return self.undone[invocation.step]
        return Succeeded({"did": invocation.step})
