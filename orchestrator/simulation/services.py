"""The simulated participants behind the network: each a shop with a barrier, which may be away, slow, or crash."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator.driving.port import Invocation
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.model import Kind
from orchestrator.simulation.loop import Process, SimulationLoop
from orchestrator.simulation.network import Network, NoAnswer, Reply, Server, Weather
from orchestrator.simulation.participants import Rules, Shop
from orchestrator.simulation.trace import Trace

Outcome = Succeeded | Refused | Unknown

SERVE_S = 0.002


@dataclass(frozen=True, slots=True)
class Temper:
    """How likely a call makes its service crash before its commit, after it, or takes long; in seconds."""

    crash_before: float = 0.0
    crash_after: float = 0.0
    slow: float = 0.0
    slow_max_s: float = 2.0


class Service:
    """One participant: its address, and its shop."""

    def __init__(self, name: str, rules: Rules, loop: SimulationLoop, chance: random.Random, trace: Trace) -> None:
        self.server = Server(name)
        self.shop = Shop(rules)
        self.temper = Temper()
        self._loop = loop
        self._chance = chance
        self._trace = trace

    def calm(self) -> None:
        """No crash and no slowness any more."""
        self.temper = Temper()

    def take(self, invocation: Invocation, reply: Reply[Outcome]) -> None:
        """A call arrives."""
        temper = self.temper
        roll = self._chance.random()
        took_s = SERVE_S * self._chance.random()
        if roll < temper.crash_before:
            self._trace.note("crash_before", self.server.name, invocation.idempotency_key)
            reply.reset()
        elif roll < temper.crash_before + temper.crash_after:
            self._loop.schedule(self._loop.world, took_s, self._commit, invocation, reply, True)
        elif roll < temper.crash_before + temper.crash_after + temper.slow:
            took_s = temper.slow_max_s * self._chance.random()
            self._loop.schedule(self._loop.world, took_s, self._commit, invocation, reply, False)
        else:
            self._loop.schedule(self._loop.world, took_s, self._commit, invocation, reply, False)

    def _commit(self, invocation: Invocation, reply: Reply[Outcome], crash: bool) -> None:
        if not reply.current:
            # The service has ended in the middle of the call.
            reply.reset()
            return
        shop, trace = self.shop, self._trace
        effects, tombstones = len(shop.effects), len(shop.tombstones)
        outcome = shop.take(invocation, business(invocation), self._loop.time())
        what = f"{invocation.idempotency_key} epoch={invocation.epoch}"
        if len(shop.effects) > effects:
            trace.note("effect", self.server.name, what)
        elif len(shop.tombstones) > tombstones:
            trace.note("tombstone", self.server.name, what)
        else:
            trace.note("no_effect", self.server.name, what, type(outcome).__name__)
            if invocation.kind is Kind.ACTION and (invocation.saga_id, invocation.step) in shop.tombstones:
                trace.count("tombstones_hit")
        if crash:
            trace.note("crash_after", self.server.name, what)
            reply.reset()
        else:
            reply.send(outcome)


def business(invocation: Invocation) -> Succeeded | Refused:
    """The rule of the shop: an order says itself at which step it is refused."""
    if invocation.kind is Kind.ACTION and invocation.request.get("refuse") == invocation.step:
        return Refused("FAILED_PRECONDITION", "refused by a rule of business")
    return Succeeded({"reference": f"{invocation.step}-{invocation.request.get('order')}"})


class RemoteServices:
    """Implements `Participants` for one replica. A saga in `poisoned` breaks whoever drives it."""

    def __init__(
        self,
        services: dict[str, Service],
        network: Network,
        process: Process,
        weather: Weather,
        poisoned: Callable[[Invocation], bool],
        trace: Trace,
    ) -> None:
        self._services = services
        self._network = network
        self._process = process
        self._weather = weather
        self._poisoned = poisoned
        self._trace = trace

    async def call(self, invocation: Invocation) -> Outcome:
        """Call the participant over the network."""
        if self._poisoned(invocation):
            raise RuntimeError("a saga that breaks its driver")
        service = self._services[invocation.service]
        try:
            return await self._network.ask(
                self._process,
                service.server,
                self._weather,
                lambda reply: service.take(invocation, reply),
                invocation.timeout_s,
            )
        except NoAnswer as error:
            self._trace.count("unknown_outcomes")
            return Unknown("UNAVAILABLE" if not error.sent else "DEADLINE_EXCEEDED", "no answer")

    def warm(self, services: Iterable[str]) -> None:
        """There is nothing to connect ahead of time."""
