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

from .pausing import Ask
from .people import Actor, cancels

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
    ACCEPTED = "accepted"  # It is taken in, and answered later.


@dataclass(frozen=True, slots=True)
class Rule:
    """The first `attempts` calls of a step in one direction take this turn, or with `asks` its questions.

    `code` is what the caller hears of a call that comes to nothing, and `slow_s` how long it is on its way, in seconds.
    `definition` is that of a child saga, if it is not the saga's own. The rule ends when the actor `until` has acted.
    """

    position: int
    turn: Turn
    attempts: int = FOR_EVER
    kind: Kind = Kind.ACTION
    asks: bool = False
    code: str = ""
    slow_s: float = 0.0
    definition: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A course of events, and the states in which the saga may end by it.

    `actors` are those who tell the saga something. `rows` says how many rows of a status the saga's log has in the end,
    whoever crashed. Behind a fault it may also end in one of `also`: a call that was lost may arrive, a call that was
    never made is in doubt, and who acts may be early. With `gap_s`, a crash is also tried after which nobody leads for
    so many seconds; then the saga ends in one of `gap_ends`. `pairs` says whether a second crash follows the first
    fault. `asks` are what an operator asks for, one thing after the other.
    """

    name: str
    ends: frozenset[str]
    rules: tuple[Rule, ...] = ()
    actors: tuple[Actor, ...] = ()
    also: frozenset[str] = frozenset()
    rows: tuple[tuple[str, int], ...] = ()
    gap_s: float = 0.0
    gap_ends: frozenset[str] = frozenset()
    pairs: bool = True
    asks: tuple[Ask, ...] = ()

    def rule(self, wanted: Rule, attempt: int, told: frozenset[str]) -> Rule:
        """What becomes of a call at the place of `wanted` when those in `told` have acted; itself by default."""
        for rule in self.rules:
            here = (rule.definition, rule.position, rule.kind, rule.asks)
            if here != (wanted.definition, wanted.position, wanted.kind, wanted.asks) or rule.until in told:
                continue
            if attempt <= rule.attempts:
                return rule
        return wanted


def cases(definition: Definition) -> Iterator[Case]:
    """Every case of a definition."""
    yield Case("success", COMPLETED)
    for position, step in enumerate(definition.steps, start=1):
        yield Case(f"{step.name} refused", COMPENSATED, (Rule(position, Turn.REFUSED),))
        yield from _silences(definition, position)
        if step.compensation is not None:
            yield from _undoing(definition, position)
    # Each effect of the successful run: the raise, a first intent, and a call and a row for each step.
    for effect in range(2 * len(definition.steps) + 2):
        yield Case(f"cancelled before effect {effect}", ENDED, actors=(cancels(effect),))
    last = Rule(len(definition.steps), Turn.UNREACHED)
    retries = cancels(2 * len(definition.steps) + 2)
    yield Case("cancelled while it retries", COMPENSATED, (last,), actors=(retries,))


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
