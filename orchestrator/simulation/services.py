"""The simulated participants behind the network: each a shop with a barrier, which may be away, slow, or crash."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from orchestrator.driving.port import Answer, Invocation
from orchestrator.saga.commands import Accepted, Refused, Succeeded, Unknown
from orchestrator.saga.model import Json, Kind
from orchestrator.simulation.answering import Answering, Spawn, Tell
from orchestrator.simulation.later import LaterRules, LaterShop
from orchestrator.simulation.loop import Process, SimulationLoop
from orchestrator.simulation.network import Network, NoAnswer, Reply, Server, Weather
from orchestrator.simulation.participants import Key
from orchestrator.simulation.trace import Trace

SERVE_S = 0.002
# How likely an action that may be answered later is, and how likely a call fails inside and takes no effect.
LATER = 0.85
BROKEN = 0.02


@dataclass(frozen=True, slots=True)
class Temper:
    """How likely a call makes its service crash before its commit, after it, or takes long; in seconds."""

    crash_before: float = 0.0
    crash_after: float = 0.0
    slow: float = 0.0
    slow_max_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Call:
    """What arrived under a key: the address, the request, and when for the first time, in seconds."""

    service: str
    request: Json
    at_s: float


class Service:
    """One participant: its address, its shop, and what it answers later.

    `called` are the calls that it ever got, by their keys: one for each request.
    """

    def __init__(
        self,
        name: str,
        rules: LaterRules,
        loop: SimulationLoop,
        chance: random.Random,
        trace: Trace,
        spawn: Spawn,
        tell: Tell,
    ) -> None:
        self.server = Server(name)
        self.shop = LaterShop(rules)
        self.temper = Temper()
        self.called: dict[Key, list[Call]] = {}
        self._loop = loop
        self._chance = chance
        self._trace = trace
        self._answering = Answering(self.server, self.shop, loop, chance, trace, spawn, tell)
        self._calm = False

    def calm(self) -> None:
        """No crash and no slowness any more."""
        self.temper = Temper()

    def heal(self) -> None:
        """From now on it is up, nothing in it fails, and no answer is forgotten."""
        self.calm()
        self.server.up = True
        self._calm = self._answering.calm = True

    def take(self, invocation: Invocation, reply: Reply[Answer]) -> None:
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

    def _commit(self, invocation: Invocation, reply: Reply[Answer], crash: bool) -> None:
        if not reply.current:
            # The service has ended in the middle of the call.
            reply.reset()
            return
        shop, trace = self.shop, self._trace
        if not invocation.asks:
            self._heard(invocation)
        effects, tombstones, accepted = len(shop.effects), len(shop.tombstones), len(shop.accepted)
        outcome = shop.call(invocation, self._verdict(invocation), self._loop.time())
        what = f"{invocation.idempotency_key} epoch={invocation.epoch}"
        if len(shop.effects) > effects:
            trace.note("effect", self.server.name, what)
        elif len(shop.tombstones) > tombstones:
            trace.note("tombstone", self.server.name, what)
        elif len(shop.accepted) > accepted:
            trace.note("accepted", self.server.name, what)
            self._answering.accepted(invocation, business(invocation))
        else:
            trace.note("no_effect", self.server.name, what, type(outcome).__name__)
            if invocation.kind is Kind.ACTION and (invocation.saga_id, invocation.step) in shop.tombstones:
                trace.count("tombstones_hit")
        if crash:
            trace.note("crash_after", self.server.name, what)
            reply.reset()
        else:
            reply.send(outcome)

    def _heard(self, invocation: Invocation) -> None:
        calls = self.called.setdefault((invocation.saga_id, invocation.step, invocation.kind), [])
        if all(call.request != invocation.request for call in calls):
            calls.append(Call(self.server.name, invocation.request, self._loop.time()))

    def _verdict(self, invocation: Invocation) -> Answer:
        roll = self._chance.random()
        if not self._calm and roll < BROKEN:
            return Unknown("INTERNAL", "something is wrong inside")
        if invocation.answers_later and self._chance.random() < LATER:
            return Accepted()
        return business(invocation)


def business(invocation: Invocation) -> Succeeded | Refused:
    """The rule of the shop: an order says itself at which step it is refused, and where undoing takes several tries."""
    place, request = f"{invocation.definition}.{invocation.step}", invocation.request
    if invocation.kind is Kind.ACTION:
        if request.get("refuse") == place:
            return Refused("FAILED_PRECONDITION", "refused by a rule of business")
    elif request.get("stubborn") == place and invocation.attempt <= request["tries"]:
        return Refused("FAILED_PRECONDITION", "it cannot be undone yet")
    return Succeeded({"reference": f"{invocation.step}-{request.get('order')}", "big": request.get("big")})


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

    async def call(self, invocation: Invocation) -> Answer:
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
            # A connection that is refused or lost is told apart from silence, and neither says what has happened.
            return Unknown("DEADLINE_EXCEEDED" if error.expired else "UNAVAILABLE", "no answer")

    def warm(self, services: Iterable[str]) -> None:
        """There is nothing to connect ahead of time."""
