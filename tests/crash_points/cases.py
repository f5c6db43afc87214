"""What can come of a saga without any crash: success, a refusal or silence at each step, a cancellation at each effect.

What a participant does depends on the call alone (step, direction, attempt), so a saga that is driven on from what is
durable meets the same world as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.saga.backoff import RetryPolicy
from orchestrator.saga.definition import Definition
from orchestrator.saga.model import Kind

FOR_EVER = 1_000

COMPLETED = frozenset({"COMPLETED"})
COMPENSATED = frozenset({"COMPENSATED"})
ENDED = COMPLETED | COMPENSATED
PARKED = frozenset({"FAILED"})

# A budget of more attempts than this makes pairs by the thousand, and shows nothing that a smaller one does not.
ATTEMPTS_SHOWN = 5


class Turn(StrEnum):
    """What becomes of one call."""

    DONE = "done"
    REFUSED = "refused"
    BROKEN = "broken"  # It arrived, failed inside, and took no effect: the caller cannot know.
    UNREACHED = "unreached"  # The request is lost, or late.
    UNHEARD = "unheard"  # It took effect, and the answer is lost.


@dataclass(frozen=True, slots=True)
class Rule:
    """The first `attempts` calls of a step in one direction take this turn."""

    position: int
    turn: Turn
    attempts: int = FOR_EVER
    kind: Kind = Kind.ACTION


@dataclass(frozen=True, slots=True)
class Case:
    """A course of events, and the states in which the saga may end by it.

    `cancel_at` is the effect, counted from 0, before which somebody asks for a cancellation.
    """

    name: str
    ends: frozenset[str]
    rules: tuple[Rule, ...] = ()
    cancel_at: int | None = None
    # The effect before which somebody orders that the saga be moved to the next version.
    move_at: int | None = None

    def turn(self, position: int, kind: Kind, attempt: int) -> Turn:
        """What becomes of this call."""
        for rule in self.rules:
            if (rule.position, rule.kind) == (position, kind) and attempt <= rule.attempts:
                return rule.turn
        return Turn.DONE


def cases(definition: Definition, *, moves: bool = False) -> Iterator[Case]:
    """Every case of a definition; of one that has a next version, the moves to it."""
    if moves:
        yield from _moves(definition)
        return
    yield Case("success", COMPLETED)
    for position, step in enumerate(definition.steps, start=1):
        yield Case(f"{step.name} refused", COMPENSATED, (Rule(position, Turn.REFUSED),))
        yield from _silences(definition, position)
        if step.compensation is not None:
            yield from _undoing(definition, position)
    # Each effect of the successful run: the raise, a first intent, and a call and a row for each step.
    for effect in range(2 * len(definition.steps) + 2):
        yield Case(f"cancelled before effect {effect}", ENDED, cancel_at=effect)
    last = Rule(len(definition.steps), Turn.UNREACHED)
    yield Case("cancelled while it retries", COMPENSATED, (last,), cancel_at=2 * len(definition.steps) + 2)


def _moves(definition: Definition) -> Iterator[Case]:
    """A move before each effect of the successful run, and of one that turns back or hears nothing."""
    last = len(definition.steps)
    for effect in range(2 * last + 2):
        yield Case(f"moved before effect {effect}", COMPLETED, move_at=effect)
        if effect % 2:
            rules = (Rule(last, Turn.REFUSED),)
            yield Case(f"moved before effect {effect}, then refused", COMPENSATED, rules, move_at=effect)
        else:
            rules = (Rule(last, Turn.UNHEARD, 1),)
            yield Case(f"moved before effect {effect}, once unheard", COMPLETED, rules, move_at=effect)


def _silences(definition: Definition, position: int) -> Iterator[Case]:
    """Unknown outcomes: for as long as the budget lasts, and once where there is a second attempt."""
    step = definition.step(position)
    for turn in (Turn.UNREACHED, Turn.UNHEARD):
        yield Case(f"{step.name} {turn}", COMPENSATED, (Rule(position, turn),))
    if step.retry.retries > 0:
        for turn in (Turn.UNHEARD, Turn.BROKEN):
            yield Case(f"{step.name} {turn} once", COMPLETED, (Rule(position, turn, 1),))
        again = (Rule(position, Turn.UNHEARD, 1), Rule(position, Turn.REFUSED))
        # Once the first attempt has taken effect, its stored answer comes and no refusal.
        yield Case(f"{step.name} unheard once, then it would refuse", ENDED, again)


def _undoing(definition: Definition, position: int) -> Iterator[Case]:
    """Trouble while a step is undone, because the last one said no or nothing."""
    step = definition.step(position)
    assert step.compensation is not None
    retry: RetryPolicy = step.compensation.retry
    last = len(definition.steps)
    turned = Rule(last, Turn.UNHEARD if position == last else Turn.REFUSED)
    if retry.retries > 0:
        for turn in (Turn.UNHEARD, Turn.REFUSED):
            rules = (turned, Rule(position, turn, 1, Kind.COMPENSATION))
            yield Case(f"undoing {step.name} {turn} once", COMPENSATED, rules)
    if retry.retries < ATTEMPTS_SHOWN:
        rules = (turned, Rule(position, Turn.REFUSED, kind=Kind.COMPENSATION))
        yield Case(f"undoing {step.name} refused", PARKED, rules)
