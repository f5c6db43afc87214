"""A simulated replica: the production campaign, leader, term and driver on simulated ports, as a process to torment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.driving.leader import Leader
from orchestrator.driving.outages import Outages
from orchestrator.driving.port import Invocation, Participants
from orchestrator.driving.term import Clocks, LeaderSettings, Means
from orchestrator.errors import LogUnavailable
from orchestrator.leadership import signal as leadership
from orchestrator.leadership.campaign import Campaign
from orchestrator.leadership.keys import Keys
from orchestrator.leadership.membership import LeaseTerms
from orchestrator.leadership.pace import Paces
from orchestrator.leadership.port import Member, World
from orchestrator.leadership.readiness import ReadinessPace
from orchestrator.leadership.victory import Ending, Hooks
from orchestrator.saga.model import SagaId
from orchestrator.saga.signals import Signal
from orchestrator.sagalog.port import SagaLog
from orchestrator.simulation.editions import Library
from orchestrator.simulation.etcd import EtcdModel, RemoteEtcd, RemoteRenewal
from orchestrator.simulation.eye import Look, RemoteEye
from orchestrator.simulation.loop import Process, SimulationLoop
from orchestrator.simulation.network import Network, Server, Weather
from orchestrator.simulation.orders import RemoteRegistry
from orchestrator.simulation.postgres import NewSaga, PostgresModel, Told
from orchestrator.simulation.services import RemoteServices, Service
from orchestrator.simulation.term_log import Line, RemoteSagaLog
from orchestrator.simulation.trace import Trace
from orchestrator.telemetry import Metrics

KEYS = Keys("simulated", 0)
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)

_SETTINGS = LeaderSettings(shard=0, sagas_max=24, recovery_page=8, poll_interval_s=2.0)
_PACES = Paces(lease=LeaseTerms(look_s=0.2), readiness=ReadinessPace(interval_s=2.0, fresh_s=5.0))


@dataclass(frozen=True, slots=True)
class Weathers:
    """The weather on the way to etcd, to Postgres, and to the participants."""

    etcd: Weather
    postgres: Weather
    services: Weather


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The world that replicas share. `wrap_log` and `wrap_participants` are for mutations."""

    loop: SimulationLoop
    network: Network
    etcd: EtcdModel
    postgres: PostgresModel
    services: dict[str, Service]
    weathers: Weathers
    library: Library
    changed: leadership.Signal
    poisoned: Callable[[Invocation], bool]
    trace: Trace
    metrics: Metrics
    wrap_log: Callable[[SagaLog], SagaLog] = lambda log: log
    wrap_participants: Callable[[Participants], Participants] = lambda participants: participants


class Replica:
    """One process of a replica, from its start to its end. A restart is a new one under the same name."""

    def __init__(self, name: str, start: int, seed: str, world: Surroundings, look: Look) -> None:
        self.name = name
        self.incarnation = f"{name}-{start}"
        self.ended = False
        self.defects: list[str] = []
        # By how much its wall clock is wrong, in seconds.
        self.skew_s = 0.0
        self._world = world
        self._chance = random.Random(f"{seed}/{self.incarnation}")
        self.main = Process(name)
        self.threads = Process(name)
        self.api = Server(name)
        self._stalled_since_s: float | None = None
        self._handlers: dict[asyncio.Task[Any], None] = {}
        loop, network = world.loop, world.network
        line = Line(loop, network, world.postgres, self.main, world.weathers.postgres, world.trace)
        self._line = line
        self.leader = self._leader(line)
        self.campaign = Campaign(
            KEYS,
            Member(name, self.incarnation, f"{name}:7490", f"{name}:7400", f"{name}:7480", 1, "1"),
            World(
                RemoteEtcd(world.etcd, network, self.main, world.weathers.etcd),
                RemoteRenewal(world.etcd, network, self.threads, world.weathers.etcd, loop, self._stalled_s),
                RemoteEye(look, world.changed, loop),
                RemoteSagaLog(line).reachable,
                loop.time,
            ),
            self.leader.lead,
            _PACES,
            Hooks(
                lambda cause: world.trace.note("term_won", self.incarnation, cause),
                self._term_ended,
                lambda verdict: world.trace.note("accused", self.incarnation, verdict),
            ),
        )
        self.run = loop.spawn(self.main, self.campaign.run())
        world.trace.note("started", self.incarnation)
        world.changed.notify()

    def _leader(self, line: Line) -> Leader:
        world = self._world
        participants = RemoteServices(
            world.services, world.network, self.main, world.weathers.services, world.poisoned, world.trace
        )
        clocks = Clocks(world.loop.time, self._chance.random)
        behind = Outages(world.wrap_participants(participants), world.loop.time, self._chance.random, world.metrics)
        means = Means(RemoteRegistry(line, world.library), behind, _SETTINGS, clocks, world.metrics)
        return Leader(world.wrap_log(RemoteSagaLog(line)), means)

    @property
    def frozen(self) -> bool:
        """Whether it is stopped."""
        return self.main.frozen

    def _now(self) -> datetime:
        return MIDNIGHT + timedelta(seconds=self._world.loop.time() + self.skew_s)

    def _stalled_s(self) -> float:
        return 0.0 if self._stalled_since_s is None else self._world.loop.time() - self._stalled_since_s

    def _term_ended(self, ending: Ending) -> None:
        self._world.trace.note("term_ended", self.incarnation, ending)
        if ending is Ending.DEFECT:
            self.defects.append(f"a term of {self.incarnation} ended by a defect")

    # What is done to it.

    def kill(self) -> None:
        """As kill -9: nothing that it still does is seen by anybody, and its tasks end with nothing said."""
        self.main.dead = self.threads.dead = True
        self.api.up = False
        self.ended = True
        for task in (self.run, *self._handlers):
            task.cancel()
        for process in (self.main, self.threads):
            if process.frozen:
                self._world.loop.wake(process)
        self._world.trace.note("killed", self.incarnation)
        self._world.changed.notify()

    def freeze(self, *, threads: bool) -> None:
        """As SIGSTOP; without `threads`, the main loop alone hangs."""
        self._stalled_since_s = self._world.loop.time()
        self._world.loop.freeze(self.main)
        if threads:
            self._world.loop.freeze(self.threads)
        self._world.trace.note("frozen" if threads else "hangs", self.incarnation)
        self._world.changed.notify()

    def wake(self) -> None:
        """As SIGCONT."""
        self._stalled_since_s = None
        for process in (self.main, self.threads):
            if process.frozen:
                self._world.loop.wake(process)
        self._world.trace.note("woken", self.incarnation)
        self._world.changed.notify()

    async def terminate(self) -> None:
        """As SIGTERM: hand leadership over and end."""
        self._world.trace.note("sigterm", self.incarnation)
        await self._world.loop.spawn(self.main, self.campaign.close())
        self.ended = True
        self.api.up = False
        for task in self._handlers:
            task.cancel()
        self._world.changed.notify()

    # What clients ask of it.

    def handle(self, request: Coroutine[Any, Any, None]) -> None:
        """Serve a request in this process."""
        task = self._world.loop.spawn(self.main, request)
        self._handlers[task] = None
        task.add_done_callback(lambda done: self._handlers.pop(done, None))

    async def store(self, new: NewSaga) -> SagaId | None:
        """Store a saga; None when Postgres does not answer."""
        try:
            return await self._line.read(lambda postgres: postgres.insert(new))
        except LogUnavailable:
            return None

    async def cancel(self, identity: SagaId) -> bool | None:
        """Store a request to cancel a saga; None when Postgres does not answer."""
        try:
            await self._line.read(lambda postgres: postgres.request_cancel(identity, "the client changed its mind"))
        except LogUnavailable:
            return None
        return True

    async def signal(self, identity: SagaId, signal: Signal, key: int) -> Told | None:
        """Store a signal, once for its key; None when Postgres does not answer."""
        try:
            return await self._line.read(lambda postgres: postgres.post(identity, signal, key))
        except LogUnavailable:
            return None
