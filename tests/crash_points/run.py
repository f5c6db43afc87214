"""One run: the production leader drives the saga of a world to its end, and every durable effect is witnessed.

At each effect the run notes the world before and after it. A crash there leaves exactly that, since nothing else
outlives a process; so whoever wants to know what a crash does begins another run in that world.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass

from orchestrator.driving.leader import Leader
from orchestrator.driving.outages import Outages
from orchestrator.driving.port import Answer, Invocation, Participants
from orchestrator.driving.registry import Compiled, Registry
from orchestrator.driving.term import Clocks, LeaderSettings, Means
from orchestrator.errors import FieldViolation, NotFound
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.model import Json
from orchestrator.sagalog.port import Claim
from orchestrator.simulation.loop import SimulationLoop
from orchestrator.simulation.participants import Outcome
from orchestrator.telemetry import Metrics

from .bulk import cancel_many
from .cases import Case, Rule, Turn
from .flow import Flow
from .pausing import begins, operate
from .relaying import relay
from .witness import Deliver, Meanwhile, Point, Witness, WitnessedLog
from .world import Clock, World

# No run needs more virtual time: the longest waits are those between attempts.
PATIENCE_S = 3600.0

SETTINGS = LeaderSettings(shard=0, sagas_max=10, recovery_page=10, poll_interval_s=60.0)


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


class _Compiled(Compiled):
    """A definition whose methods have no descriptors, so that any input fits."""

    def check_input(self, value: Json, labels: dict[str, str]) -> tuple[FieldViolation, ...]:
        return ()


class _Definitions(Registry):
    """Knows the definitions of one flow."""

    def __init__(self, flow: Flow) -> None:
        self._compiled = {(one.name, one.version): _Compiled(one, {}) for one in flow.definitions}

    async def get(self, name: str, version: int) -> Compiled:
        if (name, version) not in self._compiled:
            raise NotFound(f"there is no version {version} of definition {name!r}")
        return self._compiled[name, version]

    async def newest(self, name: str) -> Compiled:
        return await self.get(name, 1)


class _Participants:
    """Implements `Participants` over the shop of the world, as the case has it."""

    def __init__(self, witness: Witness, case: Case) -> None:
        self._witness = witness
        self._case = case

    async def call(self, invocation: Invocation) -> Answer:
        begins(self._witness.world, invocation)
        rule = self._rule(invocation)
        if rule.slow_s:
            await asyncio.sleep(rule.slow_s)

        def arrive(world: World) -> Answer:
            accepts = rule.turn is Turn.ACCEPTED
            return world.shop.receive(invocation, _verdict(rule, invocation), world.log.clock.now_s(), accepts=accepts)

        async def perform() -> Answer:
            if rule.turn is Turn.UNREACHED:
                return Unknown(rule.code or "DEADLINE_EXCEEDED", "no answer")
            answer = arrive(self._witness.world)
            if rule.turn is Turn.UNHEARD:
                return Unknown(rule.code or "UNAVAILABLE", "the connection was lost")
            return answer

        what = "question" if invocation.asks else invocation.kind
        return await self._witness.effect(f"call {invocation.step} {what}", perform, arrive)

    def warm(self, services: Iterable[str]) -> None:
        pass

    def _rule(self, invocation: Invocation) -> Rule:
        world = self._witness.world
        definition = world.flow.definition_of(invocation.definition)
        position = [step.name for step in definition.steps].index(invocation.step) + 1
        child = "" if definition.name == world.flow.definition.name else definition.name
        place = Rule(position, Turn.DONE, kind=invocation.kind, asks=invocation.asks, definition=child)
        return self._case.rule(place, invocation.attempt, world.told)


def _verdict(rule: Rule, invocation: Invocation) -> Outcome:
    match rule.turn:
        case Turn.REFUSED:
            return Refused(rule.code or "FAILED_PRECONDITION", "no")
        case Turn.BROKEN:
            return Unknown(rule.code or "INTERNAL", "a defect")
        case Turn.DONE | Turn.UNREACHED | Turn.UNHEARD | Turn.ACCEPTED:
            return Succeeded({"key": f"key of {invocation.step}"})


async def _lead(stage: Stage, witness: Witness, case: Case) -> None:
    world, clock_s = witness.world, stage.clock.now_s
    participants: Participants = _Participants(witness, case)
    if world.flow.breakers:
        participants = Outages(participants, clock_s, _chance, stage.metrics)
    means = Means(_Definitions(world.flow), participants, SETTINGS, Clocks(clock_s, _chance), stage.metrics)
    world.victories += 1
    claim = Claim(0, f"replica-{world.victories}", "etcd-1", world.victories, "vacant")
    leader = Leader(WitnessedLog(witness), means)
    if not world.flow.relayed and world.flow.cancelled_when is None and not case.asks:
        await leader.lead(_Mandate(claim))
        return
    async with asyncio.TaskGroup() as group:
        group.create_task(leader.lead(_Mandate(claim)))
        if world.flow.relayed:
            group.create_task(relay(witness, stage.metrics, leader.vouched))
        if world.flow.cancelled_when is not None:
            group.create_task(cancel_many(witness, world.flow.cancelled_when))
        if case.asks:
            group.create_task(operate(witness, case.asks, _Definitions(world.flow)))


def _chance() -> float:
    return 0.5


async def _perform(stage: Stage, began: World, case: Case, meanwhile: Meanwhile) -> Run:
    world = began.fork()
    stage.clock.set_s(world.now_s)
    witness = Witness(world, meanwhile, case.actors, asks=len(case.asks))
    witness.rouse()
    broken = await _until(witness.ended, _lead(stage, witness, case))
    return Run(began, witness.points, world, broken)


async def _die(stage: Stage, began: World, case: Case, effect: int, acknowledged: bool) -> World:
    world = began.fork()
    stage.clock.set_s(world.now_s)
    witness = Witness(world, (), case.actors, (effect, acknowledged), asks=len(case.asks))
    witness.rouse()
    await _until(witness.held, _lead(stage, witness, case))
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
