"""Where a fault strikes: a cluster under load, and the hands and eyes that a fault needs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from orchestrator.audit.gauge import Gauge, now
from orchestrator.drill.links import Links
from orchestrator.drill.load import Load
from orchestrator.drill.namespaces import Namespaces
from orchestrator.drill.progress import Progress
from orchestrator.embedded.cluster import Cluster, Leader
from orchestrator.embedded.servers import Replica
from orchestrator.embedded.standby import PostgresPair
from orchestrator.errors import InvariantError

DRIVEN_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Strike:
    """The instant of a fault by the wall clock, the epoch that held then, and the pause that the fault itself is."""

    at: datetime
    epoch: int
    outage_s: float = 0.0


@dataclass(slots=True)
class Arena:
    """One cluster with its load. `links`, `namespaces` and `pair` are there at the stages that have them.

    `chance` is seeded: whatever a fault chooses, it chooses by that. `previous` is the Python of an environment in
    which another release of Baton is installed, if there is one.
    """

    cluster: Cluster
    load: Load
    gauge: Gauge
    tell: Callable[[str], None]
    chance: random.Random = field(default_factory=random.Random)
    links: Links | None = None
    namespaces: Namespaces | None = None
    pair: PostgresPair | None = None
    previous: Path | None = None
    strike: Strike | None = None
    progress: Progress = field(default_factory=Progress)

    async def leader(self) -> Leader:
        """The leader, once every replica that should run is ready. Raises ProcessFailed."""
        return await self.cluster.wait_ready()

    def struck(self, leader: Leader, at: datetime | None = None) -> None:
        """Say that the fault strikes now, or did at that time, under this leader: the gap, or the pause, begins.

        Every strike says so, as close to the fault as it can; said again, the last word counts.
        """
        self.strike = Strike(at or now(), leader.epoch)

    def outage(self, seconds: float) -> None:
        """Say how long the fault itself keeps everybody from working: that much of a pause is not held against us."""
        if self.strike is None:
            raise InvariantError("an outage before the strike")
        self.strike = replace(self.strike, outage_s=seconds)

    async def epoch_above(self, epoch: int, timeout_s: float = DRIVEN_TIMEOUT_S) -> Replica:
        """Who raised the next epoch, as soon as it is raised. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                raised, holder = await self.gauge.fence()
                if raised > epoch:
                    return next(replica for replica in self.cluster.replicas if replica.replica_id == holder)
                await asyncio.sleep(0.001)

    async def keep(self, seconds: float) -> None:
        """Let the fault last so long under load."""
        await asyncio.sleep(seconds)

    async def driven(self, count: int, timeout_s: float = DRIVEN_TIMEOUT_S) -> None:
        """Wait until so many more sagas have been started. Raises TimeoutError."""
        await self.load.reached(count, timeout_s)

    def the_links(self) -> Links:
        """The links of this stage."""
        if self.links is None:
            raise InvariantError("this stage has no links")
        return self.links

    def the_namespaces(self) -> Namespaces:
        """The namespaces of this stage."""
        if self.namespaces is None:
            raise InvariantError("this stage has no namespaces")
        return self.namespaces

    def the_pair(self) -> PostgresPair:
        """The two Postgres servers of this stage."""
        if self.pair is None:
            raise InvariantError("this stage has one Postgres alone")
        return self.pair
