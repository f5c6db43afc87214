"""Who tells a saga something, whoever leads: participants that answer later, people, operators.

What an actor does is durable, and so is that it was done: `World.told`. An actor that a crash found waiting goes on
afterwards, so that nothing which a client may do is lost or done twice by the instrument itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.saga.events import Order, Status
from orchestrator.saga.model import SagaState
from orchestrator.saga.signals import REOPENING, Signal, Verb

if TYPE_CHECKING:
    from .world import World

_ANSWERS = frozenset({Verb.COMPLETE, Verb.FAIL})


@dataclass(frozen=True, slots=True)
class Actor:
    """Does something once: before the effect number `at` of the golden run, or `after_s` seconds after `when` holds."""

    name: str
    act: Callable[[World], None]
    at: int | None = None
    when: Callable[[World], bool] | None = None
    after_s: float = 0.1

    def wants(self, world: World) -> bool:
        """Whether it would do its part now, and has not."""
        return self.when is not None and self.name not in world.told and self.when(world)

    def tell(self, world: World) -> None:
        """Do it, unless it was done."""
        if self.name not in world.told:
            world.told |= {self.name}
            self.act(world)


# Clients and operators.


def cancels(at: int) -> Actor:
    """Somebody asks for a cancellation before this effect."""
    return Actor("cancel", cancel, at=at)


def cancel(world: World) -> None:
    """Ask for a cancellation, as a client does at any time."""
    if world.row.cancel_reason is None and not world.row.state.terminal:
        world.log.request_cancel(world.row.id, "the customer changed their mind")


def order(
    verb: Verb,
    step: str = "",
    *,
    at: int | None = None,
    when: Callable[[World], bool] | None = None,
    after_s: float = 0.1,
    number: int = 1,
    of: str = "",
) -> Actor:
    """An operator gives an order, to the child saga of the step `of` if one is named.

    `number` tells apart those who order the same.
    """
    name = " ".join(word for word in (verb, step, of, str(number)) if word)
    signal = Signal(0, verb, step, order=Order("ann", name, "seen"))
    return Actor(name, lambda world: post(world, signal, of), at=at, when=when, after_s=after_s)


def moves(at: int) -> Actor:
    """An operator has the saga moved to the next version of its definition before this effect."""
    return Actor("move", _move, at=at)


def _move(world: World) -> None:
    to = world.flow.next
    if to is not None:
        told = {"definition": to.name, "to": to.version}
        post(world, Signal(0, Verb.MOVE, result=told, order=Order("ann", "a better version")))


def post(world: World, signal: Signal, of: str = "") -> None:
    """Store a signal as a replica does, unless it refuses it: by the saga's state, or since another one waits."""
    row = world.child(of) if of else world.row
    if row is None:
        return
    reopens = row.state is SagaState.FAILED and signal.verb in REOPENING
    if row.state.terminal and not reopens:
        return
    waits = [one.signal for one in world.log.posted.values() if one.saga_id == row.id and not one.heard]
    if signal.verb in _ANSWERS and any(one.verb in _ANSWERS and one.step == signal.step for one in waits):
        return
    world.log.post(row.id, signal)


# When they do it.


def logged(status: Status, step: str = "", times: int = 1) -> Callable[[World], bool]:
    """The saga's log has so many rows of this status, of this step if one is named."""

    def holds(world: World) -> bool:
        position = world.flow.position(step) if step else 0
        rows = [one for one in world.row.events if one.status is status and (not step or one.position == position)]
        return len(rows) >= times

    return holds


def parked(world: World) -> bool:
    """The saga waits for a person."""
    return world.row.state is SagaState.FAILED


def child_is(step: str, state: str) -> Callable[[World], bool]:
    """The child saga of a step is in this state."""

    def holds(world: World) -> bool:
        child = world.child(step)
        return child is not None and child.state == state

    return holds


def accepted(step: str) -> Callable[[World], bool]:
    """The participant has accepted the step, and has not answered."""
    return lambda world: (world.row.id, step) in world.shop.accepted


# Participants that answer later.


def finishes(step: str, after_s: float = 0.5, *, when: Callable[[World], bool] | None = None) -> Actor:
    """The participant does what it has accepted, and stores the answer with it, to be told."""
    return Actor(f"{step} is done", lambda world: world.finish(step), when=when or accepted(step), after_s=after_s)


def declines(step: str, after_s: float = 0.5) -> Actor:
    """The participant refuses what it has accepted."""
    return Actor(f"{step} is declined", lambda world: world.decline(step), when=accepted(step), after_s=after_s)


def tells(step: str, after_s: float = 0.1, *, number: int = 1) -> Actor:
    """The outbox of the participant tells what is stored there; once more with another `number`."""
    name = f"{step} is told {number}"
    return Actor(name, lambda world: _deliver(world, step), when=lambda world: _stored(world, step), after_s=after_s)


def beats(step: str, number: int, after_s: float) -> Actor:
    """The participant says that it is at it."""
    signal = Signal(0, Verb.HEARTBEAT, step)
    return Actor(f"{step} beats {number}", lambda world: post(world, signal), when=accepted(step), after_s=after_s)


def _stored(world: World, step: str) -> bool:
    return (world.row.id, step) in world.shop.outbox


def _deliver(world: World, step: str) -> None:
    refusal = world.shop.outbox[world.row.id, step]
    if refusal is None:
        signal = Signal(0, Verb.COMPLETE, step, result={"key": f"key of {step}"})
    else:
        signal = Signal(0, Verb.FAIL, step, code=refusal.code, message=refusal.message)
    post(world, signal)
