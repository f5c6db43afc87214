"""One run: the production leader drives the saga of a world to its end, and every durable effect is witnessed.

At each effect the run notes the world before and after it. A crash there leaves exactly that, since nothing else
outlives a process; so whoever wants to know what a crash does begins another run in that world.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from orchestrator.driving.leader import Leader
from orchestrator.driving.port import Invocation
from orchestrator.driving.registry import Compiled, Registry
from orchestrator.driving.term import Clocks, LeaderSettings, Means
from orchestrator.errors import FieldViolation, NotFound
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.events import Event
from orchestrator.saga.model import Epoch, Json, Saga, SagaId
from orchestrator.sagalog.memory import MemoryTermLog
from orchestrator.sagalog.port import Claim, Heard, NewChild, StoredPause, StoredSaga, StoredSignal, TermLog
from orchestrator.simulation.loop import SimulationLoop
from orchestrator.simulation.participants import Outcome
from orchestrator.telemetry import Metrics

from .cases import Case, Turn
from .flows import Flow
from .world import Clock, World

T = TypeVar("T")

# The time between two effects, so that what comes first is earlier.
EFFECT_S = 0.001

# No run needs more virtual time: the longest waits are those between attempts.
PATIENCE_S = 3600.0

SETTINGS = LeaderSettings(shard=0, sagas_max=10, recovery_page=10, poll_interval_s=60.0)

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


@dataclass(frozen=True, slots=True)
class Run:
    """What a run that began in one world did until it ended in another.

    `broken` says what ended the term before the saga ended.
    """

    began: World
    points: Sequence[Point]
    world: World
    broken: str | None


class Stage:
    """What all runs share: the loop, the clock, the metrics."""

    def __init__(self, loop: SimulationLoop) -> None:
        self.loop = loop
        self.clock = Clock(loop)
        self.metrics = Metrics("crash-points", "r1")

    def perform(self, world: World, case: Case, meanwhile: Meanwhile = ()) -> Run:
        """Drive the saga of a copy of `world` to its end; what else happens before which effect is in `meanwhile`."""
        return self.loop.run(_perform(self, world, case, meanwhile))

    def changed(self, world: World, deliver: Deliver) -> World | None:
        """The world after a delivery; None when nobody could tell that there was one."""
        self.clock.set_s(world.now_s)
        changed = world.fork()
        deliver(changed)
        return None if changed.key() == world.key() else changed

    def die(self, world: World, case: Case, effect: int, *, acknowledged: bool) -> World:
        """The world after a real crash: every task of the leader ends at this effect."""
        return self.loop.run(_die(self, world, case, effect, acknowledged))


@dataclass(frozen=True, slots=True)
class _Mandate:
    claim: Claim
    leader_lost_at_s: float | None = None

    def vouched(self) -> bool:
        return True

    async def confirm(self) -> bool:
        return True


class _Uncoded(Compiled):
    """A version whose methods have no descriptors: any input will do."""

    def check_input(self, value: Json, labels: dict[str, str]) -> tuple[FieldViolation, ...]:
        return ()


class _Definitions(Registry):
    """Knows the definitions of one flow."""

    def __init__(self, flow: Flow) -> None:
        self._compiled = {(version.name, version.version): _Uncoded(version, {}) for version in flow.versions}

    async def get(self, name: str, version: int) -> Compiled:
        if (name, version) not in self._compiled:
            raise NotFound(f"there is no version {version} of definition {name!r}")
        return self._compiled[name, version]


@dataclass(slots=True)
class _Witness:
    """Sees every effect. `hold` is the effect at which the process stops for good, before or after it."""

    world: World
    meanwhile: Meanwhile
    hold: tuple[int, bool] | None = None
    held: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    points: list[Point] = field(default_factory=list)

    async def effect(self, name: str, perform: Callable[[], Awaitable[T]], again: Deliver) -> T:
        number = len(self.points)
        for due, deliver in self.meanwhile:
            if due == number:
                deliver(self.world)
        before = self.world.snapshot()
        if self.hold == (number, False):
            await self._stop()
        result = await perform()
        if self.hold == (number, True):
            await self._stop()
        await asyncio.sleep(EFFECT_S)
        self.points.append(Point(name, before, self.world.snapshot(), again))
        if self.world.row.state.terminal:
            self.ended.set()
        return result

    async def _stop(self) -> None:
        self.held.set()
        await asyncio.Event().wait()


class _Log:
    """Implements `SagaLog` on the model, witnessed."""

    def __init__(self, witness: _Witness) -> None:
        self._witness = witness

    async def raise_epoch(self, claim: Claim) -> TermLog | None:
        log = self._witness.world.log
        inner = await self._witness.effect(
            "raise", lambda: log.raise_epoch(claim), lambda world: world.log.raised(claim)
        )
        return None if inner is None else _TermLog(self._witness, inner)

    async def raise_epoch_again(self, claim: Claim) -> TermLog:
        raise AssertionError("every victory here has a higher revision than all before")

    async def reachable(self) -> bool:
        return True


class _TermLog:
    """Implements `TermLog` on the model. Reads leave nothing behind, so only the writes are effects."""

    def __init__(self, witness: _Witness, inner: MemoryTermLog) -> None:
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
        written = "+".join(f"{event.status}({event.position})" for event in events)

        def again(world: World) -> None:
            if world.log.holds_fence(self.epoch):
                world.log.write(self.epoch, saga, events, heard)

        await self._witness.effect(f"write {written}", lambda: self._inner.append(saga, events, heard), again)

    async def begin_child(self, parent: Saga, step: str, child: NewChild) -> None:
        def again(world: World) -> None:
            if world.log.holds_fence(self.epoch):
                world.log.begin_child(parent, step, child)

        await self._witness.effect("begin child", lambda: self._inner.begin_child(parent, step, child), again)

    async def undo_child(self, parent: Saga, step: str, attempt: int) -> str:
        def again(world: World) -> None:
            if world.log.holds_fence(self.epoch):
                world.log.undo_child(parent, step, attempt)

        return await self._witness.effect("undo child", lambda: self._inner.undo_child(parent, step, attempt), again)

    async def refuse(self, heard: Sequence[Heard]) -> None:
        await self._witness.effect("refuse", lambda: self._inner.refuse(heard), lambda world: world.log.hear(heard))

    async def park(self, stored: StoredSaga, reason: str) -> None:
        def again(world: World) -> None:
            if world.log.holds_fence(self.epoch):
                world.log.park(self.epoch, stored, reason)

        await self._witness.effect("park", lambda: self._inner.park(stored, reason), again)

    async def prove(self) -> None:
        await self._inner.prove()

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


class _Participants:
    """Implements `Participants` over the shop of the world, as the case has it."""

    def __init__(self, witness: _Witness, case: Case) -> None:
        self._witness = witness
        self._case = case

    async def call(self, invocation: Invocation) -> Outcome:
        world = self._witness.world
        position = [step.name for step in world.flow.versions[-1].steps].index(invocation.step) + 1
        turn = self._case.turn(position, invocation.kind, invocation.attempt)

        def arrive(world: World) -> Outcome:
            return world.shop.take(invocation, _verdict(turn, invocation), world.log.clock.now_s())

        async def perform() -> Outcome:
            if turn is Turn.UNREACHED:
                return Unknown("DEADLINE_EXCEEDED", "no answer")
            answer = arrive(world)
            return Unknown("UNAVAILABLE", "the connection was lost") if turn is Turn.UNHEARD else answer

        return await self._witness.effect(f"call {invocation.step} {invocation.kind}", perform, arrive)

    def warm(self, services: Iterable[str]) -> None:
        pass


def _verdict(turn: Turn, invocation: Invocation) -> Outcome:
    match turn:
        case Turn.REFUSED:
            return Refused("FAILED_PRECONDITION", "no")
        case Turn.BROKEN:
            return Unknown("INTERNAL", "a defect")
        case Turn.DONE | Turn.UNREACHED | Turn.UNHEARD:
            return Succeeded({"key": f"key of {invocation.step}"})


def _leader(stage: Stage, witness: _Witness, case: Case) -> Awaitable[None]:
    world = witness.world
    clocks = Clocks(stage.clock.now_s, lambda: 0.5)
    means = Means(_Definitions(world.flow), _Participants(witness, case), SETTINGS, clocks, stage.metrics)
    world.victories += 1
    claim = Claim(0, f"replica-{world.victories}", "etcd-1", world.victories, "vacant")
    return Leader(_Log(witness), means).lead(_Mandate(claim))


async def _perform(stage: Stage, began: World, case: Case, meanwhile: Meanwhile) -> Run:
    world = began.fork()
    stage.clock.set_s(world.now_s)
    witness = _Witness(world, meanwhile)
    broken = await _until(witness.ended, _leader(stage, witness, case))
    return Run(began, witness.points, world, broken)


async def _die(stage: Stage, began: World, case: Case, effect: int, acknowledged: bool) -> World:
    world = began.fork()
    stage.clock.set_s(world.now_s)
    witness = _Witness(world, (), (effect, acknowledged))
    await _until(witness.held, _leader(stage, witness, case))
    return world


async def _until(event: asyncio.Event, leading: Awaitable[None]) -> str | None:
    """Wait for the event, and end the leader. What else ended the term, if anything did."""
    leader = asyncio.ensure_future(leading)
    waiting = asyncio.ensure_future(event.wait())
    done, _ = await asyncio.wait({leader, waiting}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    broken = None if waiting in done else "the saga did not end"
    if leader in done:
        broken = f"the term ended: {leader.exception()!r}"
    for task in (leader, waiting):
        task.cancel()
    await asyncio.gather(leader, waiting, return_exceptions=True)
    return broken
