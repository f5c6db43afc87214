"""Sets the stage for a fault: a cluster of the kind that it needs, with a load that is ready to run."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.audit.gauge import Gauge
from orchestrator.drill import arming
from orchestrator.drill.arena import Arena
from orchestrator.drill.fault import Stage
from orchestrator.drill.links import Links
from orchestrator.drill.live import LivePicture, of_cluster
from orchestrator.drill.load import RATE, Load
from orchestrator.drill.namespaces import Namespaces
from orchestrator.embedded.cluster import SAMPLE_DEFINITIONS, Cluster
from orchestrator.embedded.processes import ProcessFailed
from orchestrator.starter import Connect

_DEFINITIONS_TIMEOUT_S = 60.0
_ASK_INTERVAL_S = 0.05

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StageOptions:
    """How a stage is set. `rate` is sagas a second; `seed` decides what faults choose."""

    data_dir: Path
    connect: Connect
    tell: Tell
    rate: float = RATE
    seed: int = 0
    previous: Path | None = None
    live: LivePicture | None = None


@asynccontextmanager
async def set_stage(stage: Stage, options: StageOptions) -> AsyncGenerator[Arena]:
    """A cluster below `options.data_dir` that leads, and everything a fault needs. Raises ProcessFailed.

    Servers do not sync their disks: every fault is one of processes and networks, none of a whole machine.
    """
    async with AsyncExitStack() as stack:
        links = namespaces = None
        if stage is Stage.LINKS:
            links = stack.enter_context(Links())
        elif stage is Stage.NAMESPACES:
            namespaces = stack.enter_context(Namespaces(options.data_dir))
        cluster = await stack.enter_async_context(
            Cluster(
                options.data_dir,
                settings=arming.SETTINGS,
                restart_replicas=True,
                unsafe_no_fsync=True,
                routes=links or namespaces,
                log_standby="synchronous" if stage is Stage.STANDBY else None,
            )
        )
        gauge = await stack.enter_async_context(Gauge(cluster.baton_dsn))
        await _definitions_applied(gauge)
        starter = await stack.enter_async_context(options.connect(cluster.api_endpoints, lambda *_: None))
        chance = random.Random(options.seed)
        arena = Arena(
            cluster,
            Load(starter, options.rate),
            gauge,
            options.tell,
            chance,
            links=links,
            namespaces=namespaces,
            pair=cluster.pair,
            previous=options.previous,
        )
        if options.live is not None and options.live.screen.live:
            # A gauge of its own: nobody who measures waits for who looks on.
            eyes = await stack.enter_async_context(Gauge(cluster.baton_dsn))
            look = of_cluster(cluster, eyes)
            await stack.enter_async_context(options.live.following(look, arena.progress, arena.load))
        yield arena


async def _definitions_applied(gauge: Gauge) -> None:
    """Wait until the replicas have applied their folder: the load needs what is in it. Raises ProcessFailed."""
    expected = len(list(SAMPLE_DEFINITIONS.glob("*.yaml")))
    give_up_at_s = time.monotonic() + _DEFINITIONS_TIMEOUT_S
    while (applied := await gauge.definitions()) < expected:
        if time.monotonic() > give_up_at_s:
            raise ProcessFailed(f"only {applied} of the {expected} definitions of {SAMPLE_DEFINITIONS} were applied")
        await asyncio.sleep(_ASK_INTERVAL_S)
