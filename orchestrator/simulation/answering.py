"""How a simulated participant works on what it has accepted, and tells the orchestrator: late, twice, or never."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from orchestrator.driving.port import Invocation
from orchestrator.saga.commands import Refused, Succeeded
from orchestrator.saga.model import SagaId
from orchestrator.saga.signals import Signal, Verb
from orchestrator.simulation.later import LaterShop, Stored
from orchestrator.simulation.loop import SimulationLoop
from orchestrator.simulation.network import Server
from orchestrator.simulation.postgres import Told
from orchestrator.simulation.trace import Trace

Spawn = Callable[[Coroutine[Any, Any, None]], None]
# Tells the orchestrator a signal until some replica has taken it or will never; or once only, whatever comes of it.
Tell = Callable[[SagaId, Signal, bool], Awaitable[Told | None]]

FORGOTTEN = 0.06
TOLD_TWICE = 0.12
BEAT_S = 0.7
AWAY_S = 0.3
AGAIN_S = 0.5


class Answering:
    """The later answers of one participant. What is accepted and what is done outlives its process."""

    def __init__(
        self,
        server: Server,
        shop: LaterShop,
        loop: SimulationLoop,
        chance: random.Random,
        trace: Trace,
        spawn: Spawn,
        tell: Tell,
    ) -> None:
        self.calm = False
        self._server = server
        self._shop = shop
        self._loop = loop
        self._chance = chance
        self._trace = trace
        self._spawn = spawn
        self._tell = tell

    def accepted(self, invocation: Invocation, verdict: Succeeded | Refused) -> None:
        """Begin to work on an action."""
        if not self.calm and self._chance.random() < FORGOTTEN:
            self._trace.note("answer_forgotten", invocation.idempotency_key)
            return
        self._spawn(self._work(invocation, verdict))

    async def _work(self, invocation: Invocation, verdict: Succeeded | Refused) -> None:
        chance = self._chance
        left_s = chance.uniform(0.05, 1.5) if chance.random() < 0.6 else chance.uniform(1.0, 7.0)
        while left_s > 0:
            await asyncio.sleep(min(left_s, BEAT_S))
            left_s -= BEAT_S
            if left_s > 0 and self._server.up:
                # A heartbeat that is lost is not sent again: the next one comes soon.
                await self._tell(invocation.saga_id, Signal(0, Verb.HEARTBEAT, invocation.step), False)
        while not self._server.up:  # noqa: ASYNC110 - it comes back by itself, and says so to nobody
            await asyncio.sleep(AWAY_S)
        stored = self._shop.finish(invocation.saga_id, invocation.step, verdict, self._loop.time())
        effect = stored is Stored.STORED and isinstance(verdict, Succeeded)
        self._trace.note(
            "answer_given", self._server.name, invocation.idempotency_key, stored, "effect" if effect else ""
        )
        if stored is Stored.STORED:
            await self._answer(invocation, verdict)

    async def _answer(self, invocation: Invocation, verdict: Succeeded | Refused) -> None:
        if isinstance(verdict, Succeeded):
            signal = Signal(0, Verb.COMPLETE, invocation.step, verdict.result)
        else:
            signal = Signal(0, Verb.FAIL, invocation.step, None, verdict.code, verdict.message)
        told = await self._until_taken(invocation.saga_id, signal)
        if told is Told.STORED and self._chance.random() < TOLD_TWICE:
            await asyncio.sleep(2 * self._chance.random())
            self._trace.note("answered_twice", invocation.idempotency_key)
            await self._until_taken(invocation.saga_id, signal)

    async def _until_taken(self, saga_id: SagaId, signal: Signal) -> Told | None:
        """Tell it; while another answer for the step waits to be heeded, once more."""
        while True:
            told = await self._tell(saga_id, signal, True)
            if told is not Told.WAITS:
                return told
            await asyncio.sleep(AGAIN_S)
