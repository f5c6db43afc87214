"""Who is outside of the cluster: whoever asks a replica for something, and the clients, who start and cancel sagas."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.audit.evidence import Acknowledgement
from orchestrator.saga.model import SagaId
from orchestrator.saga.signals import Signal
from orchestrator.simulation.loop import SimulationLoop
from orchestrator.simulation.network import Fate, Network, NoAnswer, Reply, Weather
from orchestrator.simulation.postgres import NewSaga, Told
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


class Outside:
    """The way from outside to whatever replica answers. What is asked for is repeated until it is answered."""

    def __init__(
        self, loop: SimulationLoop, network: Network, chance: random.Random, running: Callable[[], list[Replica]]
    ) -> None:
        self._loop = loop
        self._network = network
        self._chance = chance
        self._running = running
        self._keys = 0

    async def store(self, new: NewSaga) -> SagaId:
        """Start a saga."""
        return await self._insist(lambda replica: replica.store(new))

    async def cancel(self, identity: SagaId) -> None:
        """Ask that a saga be undone."""
        await self._insist(lambda replica: replica.cancel(identity))

    async def tell(self, identity: SagaId, signal: Signal, insist: bool = True) -> Told | None:
        """Tell a saga something; None if it was not to be insisted upon, and nobody answered."""
        self._keys += 1
        key = self._keys
        if insist:
            return await self._insist(lambda replica: replica.signal(identity, signal, key))
        return await self._ask(lambda replica: replica.signal(identity, signal, key))

    async def _insist(self, serve: Callable[[Replica], Awaitable[T | None]]) -> T:
        while True:
            answer = await self._ask(serve)
            if answer is not None:
                return answer
            await asyncio.sleep(_PAUSE_MAX_S * self._chance.random())

    async def _ask(self, serve: Callable[[Replica], Awaitable[T | None]]) -> T | None:
        """Ask one replica; None when nothing came of it."""
        running = self._running()
        if not running:
            return None
        replica = self._chance.choice(running)

        def arrive(reply: Reply[T | None]) -> None:
            async def handle() -> None:
                reply.send(await serve(replica))

            replica.handle(handle())

        with suppress(NoAnswer):
            answer: T | None = await self._network.ask(self._loop.world, replica.api, _WEATHER, arrive, _TIMEOUT_S)
            return answer
        return None


class Clients:
    """All clients of a run. `acknowledged` is what they were told."""

    def __init__(self, outside: Outside, trace: Trace) -> None:
        self.acknowledged: list[Acknowledgement] = []
        self._outside = outside
        self._trace = trace

    async def run(self, plans: list[Plan]) -> None:
        """Play all clients to their ends."""
        async with asyncio.TaskGroup() as group:
            for plan in plans:
                group.create_task(self._play(plan))

    async def _play(self, plan: Plan) -> None:
        await asyncio.sleep(plan.start_s)
        identity = await self._outside.store(plan.new)
        self.acknowledged.append(Acknowledgement(plan.new.request_id, str(identity)))
        self._trace.note("acknowledged", plan.new.request_id, identity)
        if plan.cancel_after_s is not None:
            await asyncio.sleep(plan.cancel_after_s)
            await self._outside.cancel(identity)
