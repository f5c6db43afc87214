"""What a person sees while a drill or a soak runs on a terminal: who leads, what is under way, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rich.text import Text

from orchestrator.audit.gauge import Gauge, Picture
from orchestrator.audit.screen import ReplicaSeen, Role, Screen, replica_table, role, saga_table, sparkline
from orchestrator.drill.load import Load
from orchestrator.drill.progress import Progress
from orchestrator.drill.watchtower import Watchtower
from orchestrator.embedded.cluster import Cluster
from orchestrator.errors import BatonError, LogUnavailable

# A look counts all sagas, which a soak has many of: more than this would be felt by what is measured.
_LOOK_EVERY_S = 1.0
_LOOK_MAX_S = 2.0
_SECONDS_SHOWN = 60
_ENDED = ("COMPLETED", "COMPENSATED", "FAILED")


@dataclass(frozen=True, slots=True)
class Scene:
    """One look at a cluster: what leads and who, None while that cannot be seen, and how many sagas have ended."""

    replicas: Sequence[ReplicaSeen]
    picture: Picture | None
    ended: int = 0


Look = Callable[[], Awaitable[Scene]]


@dataclass(slots=True)
class LivePicture:
    """Draws what looks bring on a screen; looks at nothing where no picture is shown."""

    screen: Screen
    _picture: Picture = field(default_factory=Picture)
    _ended: int | None = None
    _ended_at_s: float = 0.0
    _rates: deque[float] = field(default_factory=lambda: deque(maxlen=_SECONDS_SHOWN))

    @asynccontextmanager
    async def following(self, look: Look, progress: Progress, load: Load) -> AsyncGenerator[None]:
        """While entered, the picture is renewed every second."""
        if not self.screen.live:
            yield
            return
        self._picture, self._ended = Picture(), None
        self._rates.clear()
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow(look, progress, load))
            try:
                yield
            except (BatonError, ExceptionGroup) as error:
                # The group would wrap it, and those around expect what they would get without a picture.
                failure = error
            following.cancel()
        if failure is not None:
            raise failure

    async def _follow(self, look: Look, progress: Progress, load: Load) -> None:
        while True:
            self.draw(await look(), progress, load)
            await asyncio.sleep(_LOOK_EVERY_S)

    def draw(self, scene: Scene, progress: Progress, load: Load) -> None:
        """Renew the picture."""
        away = ""
        if scene.picture is None:
            away = "  (the saga log does not answer: this was before)"
        else:
            self._picture = scene.picture
            self._count(scene.ended, time.monotonic())
        picture = self._picture
        times = f" {progress.number} of {progress.of}" if progress.of else f" fault {progress.number}"
        rate = f"{self._rates[-1]:5.1f}" if self._rates else "    -"
        self.screen.draw(
            Text(f"{progress.fault or 'in fair weather'}{times if progress.number else ''}", style="bold"),
            Text(f"{picture.holder or 'nobody'} leads, epoch {picture.epoch}{away}", style="red" if away else ""),
            replica_table(scene.replicas, "process"),
            saga_table(picture.states),
            Text(f"{len(load.acknowledged)} started, {len(load.failed)} starts failed"),
            Text(f"ended a second: {rate} {sparkline(list(self._rates))}"),
            Text(f"last measures: {', '.join(progress.measures) or 'none yet'}"),
        )

    def _count(self, ended: int, at_s: float) -> None:
        """Take down how many sagas ended a second since the last look."""
        if self._ended is not None and at_s > self._ended_at_s:
            self._rates.append(max(0, ended - self._ended) / (at_s - self._ended_at_s))
        self._ended, self._ended_at_s = ended, at_s


def of_cluster(cluster: Cluster, gauge: Gauge) -> Look:
    """Looks at a cluster of our own, through a gauge that nothing else waits for."""

    async def look() -> Scene:
        picture = None
        try:
            async with asyncio.timeout(_LOOK_MAX_S):
                picture = await gauge.picture()
        except (LogUnavailable, TimeoutError):
            pass  # the fault under way, as like as not
        holder = picture.holder if picture else ""
        ended = sum(picture.states.get(state, 0) for state in _ENDED) if picture else 0
        seen = [
            ReplicaSeen(
                replica.name,
                str(replica.pid),
                role(alive=replica.alive, suspended=replica.suspended, leads=replica.replica_id == holder),
            )
            for replica in cluster.replicas
        ]
        return Scene(seen, picture, ended)

    return look


def of_deployed(tower: Watchtower, load: Load) -> Look:
    """Looks at a deployed cluster through its API: sagas under way by state; the rest of those started have ended."""

    async def look() -> Scene:
        leader = tower.seen
        seen = [
            ReplicaSeen(
                view.replica_id if view else "?",
                endpoint,
                Role.SILENT
                if view is None
                else role(
                    alive=True, suspended=False, leads=leader is not None and view.replica_id == leader.replica_id
                ),
            )
            for endpoint, view in tower.views.items()
        ]
        try:
            async with asyncio.timeout(_LOOK_MAX_S):
                states = await tower.under_way()
        except (BatonError, TimeoutError):
            return Scene(seen, None)
        ended = max(0, len(load.acknowledged) - sum(states.values()))
        picture = Picture(states, leader.epoch if leader else 0, leader.replica_id if leader else "")
        return Scene(seen, picture, ended)

    return look
