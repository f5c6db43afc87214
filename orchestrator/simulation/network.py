"""The simulated network: every message takes its time, and may be lost, late, or come twice; links can be cut.

A request that is lost, or whose answer is, ends in one of two ways, as over TCP: the connection is reset and the
caller hears of it soon, or nothing is heard until the caller's own deadline. Either way it does not know whether the
request took effect. What is sent late is served late, by whoever is there by then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from orchestrator.simulation.loop import Process, SimulationLoop
from orchestrator.simulation.trace import Trace

T = TypeVar("T")


class Fate(StrEnum):
    """What becomes of one message exchange."""

    REQUEST_LOST = "request_lost"
    ANSWER_LOST = "answer_lost"
    LATE = "late"
    TWICE = "twice"


@dataclass(frozen=True, slots=True)
class Weather:
    """How likely each fate of a message is, and how long a message takes, in seconds.

    `late_max_s` bounds the delay of what is late or comes twice.
    """

    latency_s: float = 0.002
    jitter_s: float = 0.004
    fates: tuple[tuple[Fate, float], ...] = ()
    late_max_s: float = 10.0


class NoAnswer(Exception):
    """The exchange failed. `sent`: it may have reached somebody. `expired`: nothing was heard at all."""

    def __init__(self, sent: bool, *, expired: bool = False) -> None:
        super().__init__("no answer")
        self.sent = sent
        self.expired = expired


@dataclass(slots=True)
class Server:
    """An address that can be reached: `up` says whether anybody listens there; each start is a new `generation`."""

    name: str
    up: bool = True
    generation: int = 0


class Reply(Generic[T]):
    """How a server answers one request: `send` it, once, or `fail`, or drop it."""

    __slots__ = ("_arrive", "generation", "server")

    def __init__(self, server: Server, arrive: Callable[[T | None, BaseException | None], None]) -> None:
        self.server = server
        self.generation = server.generation
        self._arrive = arrive

    @property
    def current(self) -> bool:
        """Whether the server still is the one that took the request."""
        return self.server.up and self.server.generation == self.generation

    def send(self, value: T) -> None:
        """Answer."""
        self._arrive(value, None)

    def fail(self, error: BaseException) -> None:
        """Answer with an error, which is raised at the caller."""
        self._arrive(None, error)

    def reset(self) -> None:
        """End the connection: the caller soon knows that it will hear nothing."""
        self._arrive(None, NoAnswer(sent=True))


Serve = Callable[[Reply[T]], None]


class Network:
    """All links. `cut` holds the directed pairs of names between which nothing passes."""

    def __init__(self, loop: SimulationLoop, chance: random.Random, trace: Trace) -> None:
        self._loop = loop
        self._chance = chance
        self._trace = trace
        self.cut: dict[tuple[str, str], None] = {}
        self.calm = False
        # What is on its way and may still take effect: when the last of it arrives.
        self.last_arrival_s = 0.0

    async def ask(self, source: Process, server: Server, weather: Weather, serve: Serve[T], timeout_s: float) -> T:
        """Have `serve` run at the server and return its answer. Raises NoAnswer, and what the server fails with."""
        if source.dead:
            raise asyncio.CancelledError
        loop = self._loop
        future: asyncio.Future[T] = loop.create_future()
        timer = loop.call_later(timeout_s, _expire, future)
        self.post(source, server, weather, serve, lambda value, error: _deliver(future, value, error))
        try:
            return await future
        finally:
            timer.cancel()

    def post(
        self,
        source: Process,
        server: Server,
        weather: Weather,
        serve: Serve[T],
        answered: Callable[[T | None, BaseException | None], None],
    ) -> None:
        """Send a request. `answered` is called in the world's process, at most once, when an answer comes back."""
        fate = self._draw(weather)
        source_name = source.name
        delay_s = self._latency_s(weather)
        if fate is not None:
            self._trace.note(fate.value, source_name, server.name)
        if fate is Fate.REQUEST_LOST or (source_name, server.name) in self.cut:
            if fate is Fate.REQUEST_LOST and self._chance.random() < 0.5:
                self._loop.schedule(self._loop.world, delay_s, answered, None, NoAnswer(sent=True))
            return
        if fate is Fate.LATE:
            delay_s += self._late_s(weather)
        self._send(delay_s, server, serve, _Back(self, source_name, server, weather, fate, answered))
        if fate is Fate.TWICE:
            # Nobody listens to the second answer.
            self._send(delay_s + self._late_s(weather), server, serve, None)

    def _send(self, delay_s: float, server: Server, serve: Serve[Any], back: _Back[Any] | None) -> None:
        self.last_arrival_s = max(self.last_arrival_s, self._loop.time() + delay_s)
        self._loop.schedule(self._loop.world, delay_s, _arrive, server, serve, back)

    def _draw(self, weather: Weather) -> Fate | None:
        if self.calm or not weather.fates:
            return None
        roll = self._chance.random()
        for fate, likely in weather.fates:
            roll -= likely
            if roll < 0:
                return fate
        return None

    def _latency_s(self, weather: Weather) -> float:
        # Mostly short, now and then ten times as long, so that messages overtake each other.
        roll = self._chance.random()
        return weather.latency_s + weather.jitter_s * (roll if roll < 0.95 else roll * 10)

    def _late_s(self, weather: Weather) -> float:
        return weather.late_max_s * self._chance.random() ** 2


class _Back(Generic[T]):
    """The way back of one exchange."""

    __slots__ = ("_answered", "_fate", "_network", "_server", "_source", "_weather")

    def __init__(
        self,
        network: Network,
        source: str,
        server: Server,
        weather: Weather,
        fate: Fate | None,
        answered: Callable[[T | None, BaseException | None], None],
    ) -> None:
        self._network = network
        self._source = source
        self._server = server
        self._weather = weather
        self._fate = fate
        self._answered = answered

    def __call__(self, value: T | None, error: BaseException | None) -> None:
        network = self._network
        if (self._server.name, self._source) in network.cut:
            return
        delay_s = network._latency_s(self._weather)
        if self._fate is Fate.ANSWER_LOST:
            if network._chance.random() < 0.5:
                return
            value, error = None, NoAnswer(sent=True)
        network._loop.schedule(network._loop.world, delay_s, self._answered, value, error)


def _arrive(server: Server, serve: Serve[Any], back: _Back[Any] | None) -> None:
    """A request arrives; where nobody listens, the host says so."""
    if not server.up:
        if back is not None:
            back(None, NoAnswer(sent=False))
        return
    serve(Reply(server, _nobody if back is None else back))


def _nobody(_value: object, _error: BaseException | None) -> None:
    pass


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(NoAnswer(sent=True, expired=True))


def _deliver(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
