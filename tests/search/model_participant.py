"""The model of a participant: the barrier and its ledger, as participants/barrier.py keeps them.

A call is one step of the model: the barrier's transactions on one key wait for each other, so they have an order.
The check of the epoch (R6) is left out. What it refuses becomes "nobody knows" for the caller, as a lost call does; so
the model without it can do everything that the real participant does, and more.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.search.mutations import Rules
from tests.search.world import Answer, Direction, Key, Participant

# Two entries under one key are one too many already: no need to count on.
_COUNTED_MAX = 2


class Served(NamedTuple):
    """One way in which a call may end: the answer, the participant after it, in words, and whether it is a fault."""

    answer: Answer
    after: Participant
    words: str
    fault: bool = False


def serve(participant: Participant, direction: Direction, intended: bool, rules: Rules) -> tuple[Served, ...]:
    """Every way in which the call may end. `intended`: the observer saw its intent in the log when it was sent."""
    if direction is Direction.ACTION:
        return _act(participant, intended, rules)
    return _compensate(participant, intended, rules)


def settled(participant: Participant, direction: Direction, rules: Rules) -> bool:
    """Whether such a call can change nothing here any more, now or later."""
    return all(served.after == participant for served in serve(participant, direction, False, rules))


def _act(participant: Participant, intended: bool, rules: Rules) -> tuple[Served, ...]:
    match participant.action:
        case Key.REFUSED:
            return (Served(Answer.NO, participant, "gives the stored refusal"),)
        case Key.TOMBSTONE:
            return (Served(Answer.NO, participant, "refuses the action: there is a tombstone"),)
        case Key.DONE if rules.idempotency:
            return (Served(Answer.OK, participant, "gives the stored answer"),)
    effect = participant._replace(
        action=Key.DONE,
        done=min(participant.done + 1, _COUNTED_MAX),
        late=participant.late or participant.compensation,
        unintended=participant.unintended or not intended,
    )
    done = Served(Answer.OK, effect, "does the action")
    if participant.action is Key.DONE:
        return (done,)
    return (done, Served(Answer.NO, participant._replace(action=Key.REFUSED), "refuses the action"))


def _compensate(participant: Participant, intended: bool, rules: Rules) -> tuple[Served, ...]:
    if participant.compensation and (rules.idempotency or participant.action is not Key.DONE):
        return (Served(Answer.OK, participant, "gives the stored answer"),)
    if participant.action is not Key.DONE:
        buried = participant.action is Key.FREE and rules.tombstone
        after = participant._replace(compensation=True, action=Key.TOMBSTONE if buried else participant.action)
        words = "has nothing to compensate" + (" and leaves a tombstone" if buried else "")
        return (Served(Answer.OK, after, words),)
    effect = participant._replace(
        compensation=True,
        undone=min(participant.undone + 1, _COUNTED_MAX),
        unintended=participant.unintended or not intended,
    )
    return (
        Served(Answer.OK, effect, "does the compensation"),
        Served(Answer.NO, participant, "refuses the compensation for now", fault=True),
    )
