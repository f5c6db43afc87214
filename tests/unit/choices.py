"""Everything that can happen to a saga in a moment: for walks through all of it, and for walks at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from orchestrator.saga.commands import Accepted, Ask, Call, Held, Intend, Outcome, Ready, Refused, Succeeded, Unknown
from orchestrator.saga.definition import Definition
from orchestrator.saga.events import Event, Order
from orchestrator.saga.machine import Moment, decide, evolve, next_commands, parked
from orchestrator.saga.model import Epoch, Saga, SagaState
from orchestrator.saga.moving import Destination
from orchestrator.saga.signals import Signal, Verb, heed

from .sagas import EPOCH, NOW

ORDER = Order("kim", "because", "a receipt")
OK = Succeeded({"ok": True})
NO = Refused("FAILED_PRECONDITION", "no")
ABSENT = Refused("NOT_FOUND", "never heard of it")
LOST = Unknown("DEADLINE_EXCEEDED", "late")
AWAY = Held("NOT_CALLED", "away", 1.0, called=False)
PAUSED = Held("PAUSED", "moving house", 1.0, called=False)
CUT = Held("UNAVAILABLE", "cut", 1.0, called=True)


@dataclass(frozen=True)
class World:
    """A saga, and what it may not know itself: the epoch, the time, and whether somebody wants it undone."""

    saga: Saga
    epoch: Epoch = EPOCH
    now: datetime = NOW
    cancel: str | None = None
    events: tuple[Event, ...] = ()
    # A step of another saga runs it, and may turn back when it has completed.
    child: bool = False
    # The versions that it may be moved to.
    versions: tuple[Definition, ...] = ()

    @property
    def moment(self) -> Moment:
        return Moment(self.epoch, self.now, 0.0)

    def tell(self, outcome: Outcome, position: int) -> World:
        saga, events = decide(self.saga, outcome, self.moment, self.cancel, position)
        return replace(self, saga=saga, events=events)


def choices(world: World) -> Iterator[tuple[str, World]]:
    """Every next thing, by a name for it."""
    saga = world.saga
    if not saga.state.terminal:
        yield from _commands(world)
        if world.cancel is None:
            yield "cancel", replace(world, cancel="stop").tell(Ready(), 0)
        if world.epoch == EPOCH:
            yield "failover", replace(world, epoch=Epoch(EPOCH + 1), events=())
        event = parked(saga, world.epoch, "a defect")
        yield "park", replace(world, saga=evolve(saga, event), events=(event,))
    if saga.state not in (SagaState.COMPLETED, SagaState.COMPENSATED):
        yield from _signals(world)
    elif world.child and saga.state is SagaState.COMPLETED:
        heeded = heed(saga, Signal(1, Verb.UNDO), world.moment)
        if heeded is not None and heeded.events:
            yield "undo", replace(world, saga=heeded.saga, events=heeded.events)


def _commands(world: World) -> Iterator[tuple[str, World]]:
    for command in next_commands(world.saga, world.epoch):
        match command:
            case Intend():
                yield "intend", world.tell(Ready(), 0)
            case Call() | Ask():
                step = world.saga.definition.step(command.position)
                outcomes: list[Outcome] = [OK, NO, LOST, AWAY, PAUSED, CUT]
                if isinstance(command, Ask):
                    outcomes.append(ABSENT)
                elif step.answers_later:
                    outcomes.append(Accepted())
                for outcome in outcomes:
                    yield f"{outcome} {command}", world.tell(outcome, command.position)
            case _ if getattr(command, "until", None) is not None:
                until = command.until  # type: ignore[union-attr]
                later = replace(world, now=max(until, world.now))
                yield f"{command}", later.tell(Ready(), command.position)  # type: ignore[union-attr]


def _signals(world: World) -> Iterator[tuple[str, World]]:
    steps = world.saga.definition.steps
    for to in world.versions:
        destination = Destination(to, from_version=world.saga.definition.version)
        heeded = heed(
            world.saga, Signal(1, Verb.MOVE, order=ORDER, destination=destination), world.moment, world.cancel
        )
        if heeded is not None and heeded.events:
            yield f"move {to.version}", replace(world, saga=heeded.saga, events=heeded.events)
    for verb in Verb:
        whole = verb in (Verb.PAUSE, Verb.RESUME)
        for step in ("",) if whole else [step.name for step in steps]:
            for code in ("FAILED_PRECONDITION", "UNAVAILABLE") if verb is Verb.FAIL else ("",):
                signal = Signal(1, verb, step, {}, code, "said so", ORDER)
                heeded = heed(world.saga, signal, world.moment, world.cancel)
                if heeded is not None and heeded.events:
                    yield f"{verb} {step} {code}", replace(world, saga=heeded.saga, events=heeded.events)


def key(world: World) -> object:
    """The same for two worlds from which the same can come."""
    saga, now = world.saga, world.now

    def left(time: datetime | None) -> timedelta | None:
        return None if time is None else max(time - now, timedelta(0))

    cursors = (
        tuple(replace(c, retry_at=None, limit_at=None, attempt=min(c.attempt, 2)) for c in saga.open),
        tuple((left(c.retry_at), left(c.limit_at)) for c in saga.open),
    )
    return (
        saga.state, cursors, saga.executed, saga.skipped, saga.to_compensate, saga.compensated,
        saga.uncompensated, saga.undo_reached,
        saga.definition.version, saga.paused, saga.parked_from, left(saga.deadline), world.epoch, world.cancel is None,
    )  # fmt: skip
