"""Sees every durable effect of a leader, and notes the world before and after it.

Effects happen one after the other, whoever causes them: a leader that does several things at once has an order of its
effects like any other, and a crash between two of them leaves what the ones before it have left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from orchestrator.leadership.signal import Signal
from orchestrator.saga.events import Event
from orchestrator.saga.model import Epoch, Saga, SagaId
from orchestrator.sagalog.memory_term import MemoryTermLog
from orchestrator.sagalog.port import Claim, Heard, NewChild, StoredPause, StoredSaga, StoredSignal, TermLog

from .people import Actor
from .world import World

T = TypeVar("T")

# The time between two effects, so that what comes first is earlier.
EFFECT_S = 0.001

# Makes an effect happen in a world: at its time, once more, or too late.
Deliver = Callable[[World], object]
Meanwhile = tuple[tuple[int, Deliver], ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A durable effect of the leader, and the world before and after it."""

    name: str
    before: World
    after: World
    again: Deliver

    @property
    def is_call(self) -> bool:
        """Whether it is a call of a participant, and not a write to the log."""
        return self.name.startswith("call ")


@dataclass(slots=True)
class Witness:
    """Sees every effect. `hold` is the effect at which the process stops for good, before or after it.

    `actors` do their part when their time has come; `ended` is set when nobody has anything to do any more, and as many
    of the operator's `asks` were answered. `changed` is notified of whatever happens in the world.
    """

    world: World
    meanwhile: Meanwhile
    actors: Sequence[Actor] = ()
    hold: tuple[int, bool] | None = None
    asks: int = 0
    held: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    points: list[Point] = field(default_factory=list)
    changed: Signal = field(default_factory=Signal)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _about_to: set[str] = field(default_factory=set)

    async def effect(self, name: str, perform: Callable[[], Awaitable[T]], again: Deliver) -> T:
        async with self._turn:
            number = len(self.points)
            for due, deliver in self.meanwhile:
                if due == number:
                    deliver(self.world)
                    self.changed.notify()
            before = self.world.snapshot()
            if self.hold == (number, False):
                await self._stop()
            result = await perform()
            if self.hold == (number, True):
                await self._stop()
            await asyncio.sleep(EFFECT_S)
            self.points.append(Point(name, before, self.world.snapshot(), again))
        self._look()
        return result

    def rouse(self) -> None:
        """Have the actors whose time has come do their part."""
        for actor in self.actors:
            if actor.name not in self._about_to and actor.wants(self.world):
                self._about_to.add(actor.name)
                asyncio.get_running_loop().call_later(actor.after_s, self._act, actor)

    def _look(self) -> None:
        self.changed.notify()
        self.rouse()
        answered = self.world.answered >= self.asks
        if not self._about_to and answered and self.world.still and self._relayed():
            self.ended.set()

    def _act(self, actor: Actor) -> None:
        actor.tell(self.world)
        self._about_to.discard(actor.name)
        self._look()

    def _relayed(self) -> bool:
        world = self.world
        return not world.flow.relayed or (world.relayed is not None and world.relayed.position == len(world.log.order))

    async def _stop(self) -> None:
        self.held.set()
        await asyncio.Event().wait()


class WitnessedLog:
    """Implements `SagaLog` on the model, witnessed."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def raise_epoch(self, claim: Claim) -> TermLog | None:
        log = self._witness.world.log
        inner = await self._witness.effect(
            "raise", lambda: log.raise_epoch(claim), lambda world: world.log.raised(claim)
        )
        return None if inner is None else WitnessedTermLog(self._witness, inner)

    async def raise_epoch_again(self, claim: Claim) -> TermLog:
        raise AssertionError("every victory here has a higher revision than all before")

    async def reachable(self) -> bool:
        return True


class WitnessedTermLog:
    """Implements `TermLog` on the model. Reads leave nothing behind, so only the writes are effects."""

    def __init__(self, witness: Witness, inner: MemoryTermLog) -> None:
        self._witness = witness
        self._inner = inner

    @property
    def epoch(self) -> Epoch:
        return self._inner.epoch

    @property
    def proven_at_s(self) -> float:
        return self._inner.proven_at_s

    def now(self) -> datetime:
        return self._inner.now()

    async def append(self, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> None:
        written = "+".join(f"{event.status}({event.position})" for event in events) or "heard"

        def again(world: World) -> None:
            if world.log.holds_fence(self.epoch):
                world.log.write(self.epoch, saga, events, heard)

        name = f"write {saga.definition.name} {written}"
        await self._witness.effect(name, lambda: self._inner.append(saga, events, heard), again)

    async def begin_child(self, parent: Saga, step: str, child: NewChild) -> None:
        def again(world: World) -> None:
            if world.log.holds_fence(self.epoch):
                world.log.begin_child(parent, step, child)

        await self._witness.effect("begin child", lambda: self._inner.begin_child(parent, step, child), again)

    async def undo_child(self, parent: Saga, step: str, asking: int) -> str:
        def again(world: World) -> None:
            if world.log.holds_fence(self.epoch):
                world.log.undo_child(parent, step, asking)

        return await self._witness.effect("undo child", lambda: self._inner.undo_child(parent, step, asking), again)

    async def refuse(self, heard: Sequence[Heard]) -> None:
        def again(world: World) -> None:
            if world.log.holds_fence(self.epoch):
                world.log.hear(heard)

        await self._witness.effect("refuse", lambda: self._inner.refuse(heard), again)

    async def park(self, stored: StoredSaga, reason: str) -> None:
        def again(world: World) -> None:
            if world.log.holds_fence(self.epoch):
                world.log.park(self.epoch, stored, reason)

        await self._witness.effect("park", lambda: self._inner.park(stored, reason), again)

    async def prove(self) -> None:
        await self._inner.prove()

    def forget(self, sagas: Collection[SagaId]) -> None:
        self._inner.forget(sagas)

    def unfinished(self, first: int, most: int) -> AsyncGenerator[list[StoredSaga]]:
        return self._inner.unfinished(first, most)

    async def pauses(self) -> list[StoredPause]:
        return await self._inner.pauses()

    def held(self, until: datetime, page: int) -> AsyncGenerator[list[StoredSaga]]:
        return self._inner.held(until, page)

    async def heed_pauses(self, heeded: Collection[UUID], released: Collection[UUID]) -> None:
        def again(world: World) -> None:
            if world.log.holds_fence(self.epoch):
                world.log.heed_pauses(heeded, released)

        await self._witness.effect("heed pauses", lambda: self._inner.heed_pauses(heeded, released), again)

    async def pending(self, limit: int, exclude: Sequence[SagaId]) -> list[StoredSaga]:
        return await self._inner.pending(limit, exclude)

    async def cancellations(self) -> list[tuple[SagaId, str]]:
        return await self._inner.cancellations()

    def due(self, page: int) -> AsyncGenerator[list[StoredSaga]]:
        return self._inner.due(page)

    async def next_due_s(self) -> float | None:
        return await self._inner.next_due_s()

    async def sagas(self, ids: Sequence[SagaId]) -> list[StoredSaga]:
        return await self._inner.sagas(ids)

    async def signals(self, after: int, page: int) -> list[StoredSignal]:
        return await self._inner.signals(after, page)

    async def run(self) -> None:
        await self._inner.run()

    async def listen(self, wake: Callable[[], None]) -> None:
        await self._inner.listen(wake)

    async def close(self) -> None:
        await self._inner.close()
