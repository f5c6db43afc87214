"""The simulated clients: each starts one saga through whatever replica answers, and repeats it until it is told so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.audit.evidence import Acknowledgement
from orchestrator.saga.model import SagaId
from orchestrator.simulation.loop import SimulationLoop
from orchestrator.simulation.network import Fate, Network, NoAnswer, Reply, Weather
from orchestrator.simulation.postgres import NewSaga
from orchestrator.simulation.replica import Replica
from orchestrator.simulation.trace import Trace

T = TypeVar("T")

_TIMEOUT_S = 3.0
_PAUSE_MAX_S = 1.0
_WEATHER = Weather(fates=((Fate.REQUEST_LOST, 0.01), (Fate.ANSWER_LOST, 0.02), (Fate.TWICE, 0.01)), late_max_s=5.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """One client: when it starts its saga, and how long after that it wants it cancelled, if at all; in seconds."""

    new: NewSaga
    start_s: float
    cancel_after_s: float | None


class Clients:
    """All clients of a run. `acknowledged` is what they were told."""

    def __init__(
        self,
        loop: SimulationLoop,
        network: Network,
        chance: random.Random,
        trace: Trace,
        running: Callable[[], list[Replica]],
    ) -> None:
        self.acknowledged: list[Acknowledgement] = []
        self._loop = loop
        self._network = network
        self._chance = chance
        self._trace = trace
        self._running = running

    async def run(self, plans: list[Plan]) -> None:
        """Play all clients to their ends."""
        async with asyncio.TaskGroup() as group:
            for plan in plans:
                group.create_task(self._play(plan))

    async def _play(self, plan: Plan) -> None:
        await asyncio.sleep(plan.start_s)
        identity: SagaId | None = None
        while identity is None:
            identity = await self._ask(lambda replica, reply: _store(replica, plan.new, reply))
        self.acknowledged.append(Acknowledgement(plan.new.request_id, str(identity)))
        self._trace.note("acknowledged", plan.new.request_id, identity)
        if plan.cancel_after_s is not None:
            await asyncio.sleep(plan.cancel_after_s)
            await self._cancel(identity)

    async def _cancel(self, identity: SagaId) -> None:
        done: bool | None = None
        while not done:
            done = await self._ask(lambda replica, reply: _cancel(replica, identity, reply))

    async def _ask(self, serve: Callable[[Replica, Reply[T | None]], None]) -> T | None:
        """Ask one replica; None when nothing came of it, after a pause."""
        chance = self._chance
        running = self._running()
        if running:
            replica = chance.choice(running)

            def arrive(reply: Reply[T | None]) -> None:
                serve(replica, reply)

            with suppress(NoAnswer):
                answer: T | None = await self._network.ask(self._loop.world, replica.api, _WEATHER, arrive, _TIMEOUT_S)
                if answer is not None:
                    return answer
        await asyncio.sleep(_PAUSE_MAX_S * chance.random())
        return None


def _store(replica: Replica, new: NewSaga, reply: Reply[SagaId | None]) -> None:
    async def handle() -> None:
        reply.send(await replica.store(new))

    replica.handle(handle())


def _cancel(replica: Replica, identity: SagaId, reply: Reply[bool | None]) -> None:
    async def handle() -> None:
        reply.send(await replica.cancel(identity) or None)

    replica.handle(handle())
