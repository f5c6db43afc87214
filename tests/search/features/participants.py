"""Every way in which a call may end at a participant that keeps its barrier.

As participants/barrier.py, standing.py and answers.py have it; without the check of the epoch (R6), which only refuses.
A call is one step: the barrier's transactions on one key wait for each other, so they have an order.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.search.features.world import Call, Key, Participant, Sort

# Two entries under one key are one too many already: no need to count on.
_COUNTED_MAX = 2


class Serving(NamedTuple):
    """What a participant may do at this step."""

    results: tuple[str, ...]
    may_refuse: bool
    answers_later: bool
    stubborn: bool


class Served(NamedTuple):
    """One way in which a call may end: the outcome for the caller, the participant after it, whether it is a fault."""

    outcome: str
    after: Participant
    fault: bool = False


def serve(participant: Participant, call: Call, serving: Serving) -> tuple[Served, ...]:
    """Every way in which the call may end."""
    match call.sort:
        case Sort.ACTION:
            return _act(participant, call, serving)
        case Sort.COMPENSATION:
            return _compensate(participant, serving)
        case _:
            return (_tell(participant, call),)


def kept(participant: Participant, call: Call) -> Participant:
    """The participant, which keeps what first came under each of its keys."""
    match call.sort:
        case Sort.ACTION if not participant.heard and call.made:
            return participant._replace(heard=call.made)
        case Sort.COMPENSATION if not participant.heard_undo and call.made:
            return participant._replace(heard_undo=call.made)
        case _:
            return participant


def contradicts(participant: Participant, call: Call) -> bool:
    """Whether something else came before under the call's key."""
    before = {Sort.ACTION: participant.heard, Sort.COMPENSATION: participant.heard_undo}.get(call.sort, 0)
    return before not in (0, call.made)


def _act(participant: Participant, call: Call, serving: Serving) -> tuple[Served, ...]:
    match participant.action:
        case Key.REFUSED | Key.TOMBSTONE:
            return (Served("no", participant),)
        case Key.ASKED if call.attempt <= participant.asked:
            return (Served("no", participant),)
        case Key.DONE:
            return tuple(Served(result, participant) for result in serving.results)
        case Key.ACCEPTED:
            return (Served("accepted", participant),)
        case Key.FREE | Key.ASKED:
            pass
    ways = [Served(result, done(participant)) for result in serving.results]
    if serving.answers_later:
        ways.append(Served("accepted", participant._replace(action=Key.ACCEPTED)))
    if serving.may_refuse:
        ways.append(Served("no", participant._replace(action=Key.REFUSED)))
    return tuple(ways)


def done(participant: Participant) -> Participant:
    """The participant behind the effect of the action."""
    return participant._replace(action=Key.DONE, done=min(participant.done + 1, _COUNTED_MAX))


def _compensate(participant: Participant, serving: Serving) -> tuple[Served, ...]:
    if participant.compensation:
        return (Served("ok", participant),)
    if participant.action is Key.REFUSED:
        return (Served("ok", participant._replace(compensation=True)),)
    if participant.action is not Key.DONE:
        return (Served("ok", participant._replace(compensation=True, action=Key.TOMBSTONE)),)
    undone = participant._replace(compensation=True, undone=min(participant.undone + 1, _COUNTED_MAX))
    ways = [Served("ok", undone)]
    if serving.stubborn:
        ways.append(Served("no", participant, fault=True))
    return tuple(ways)


def _tell(participant: Participant, call: Call) -> Served:
    """The status method: it says of an action that it was never seen only when no attempt so far will do it."""
    match participant.action:
        case Key.DONE:
            return Served("no" if participant.compensation else "ok", participant)
        case Key.ACCEPTED:
            return Served("accepted", participant)
        case Key.FREE | Key.ASKED:
            asked = max(participant.asked, call.attempt)
            return Served("not found", participant._replace(action=Key.ASKED, asked=asked))
        case Key.REFUSED | Key.TOMBSTONE:
            return Served("not found", participant)
