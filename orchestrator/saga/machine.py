"""The state machine of a saga: what to do next, and what an outcome means.

    next_commands(saga, epoch)  what the saga asks for
    decide(saga, outcome, ...)  the events that an outcome gives, the next intents among them, and the saga after them

`decide` writes what is done and the intents of what comes next together, so that a step costs one write (R4). What an
event changes stands in evolve.py.

Pure: no clock, no randomness, no I/O. The time and chance come in as arguments.
"""

from __future__ import annotations

from orchestrator.errors import InvariantError
from orchestrator.saga import acting, undoing
from orchestrator.saga.commands import Ask, Begin, Call, Command, Intend, Outcome, Ready, Wait
from orchestrator.saga.definition import Work
from orchestrator.saga.events import Event, Status
from orchestrator.saga.evolve import evolve, fold
from orchestrator.saga.model import Cursor, Epoch, Kind, Phase, Saga, SagaState
from orchestrator.saga.progress import turnable
from orchestrator.saga.script import Moment, Script

__all__ = ["Moment", "decide", "evolve", "fold", "next_command", "next_commands", "parked"]


def next_commands(saga: Saga, epoch: Epoch) -> tuple[Command, ...]:
    """What the saga asks for under `epoch`, all at once; nothing when it is terminal.

    An intent of an older epoch is written again before the call: so every call of an epoch has an intent of that
    epoch, and a leader that was overtaken finds out before it calls, not after.
    """
    if saga.state.terminal:
        return ()
    if saga.state is SagaState.PENDING and saga.starts_at is not None and not saga.paused:
        return (Wait(saga.starts_at),)
    if not saga.paused and (not saga.open or any(_stale(cursor, epoch) for cursor in saga.open)):
        return (Intend(),)
    commands = [_asks_for(saga, cursor) for cursor in saga.open if not (saga.paused and _stale(cursor, epoch))]
    if saga.paused:
        calls = [command for command in commands if not isinstance(command, Wait)]
        return (*calls, Wait(None))
    if saga.deadline is not None and turnable(saga):
        commands.append(Wait(saga.deadline))
    return tuple(commands)


def next_command(saga: Saga, epoch: Epoch) -> Command | None:
    """The first thing that the saga asks for; all there is where one step follows the other."""
    commands = next_commands(saga, epoch)
    return commands[0] if commands else None


def _stale(cursor: Cursor, epoch: Epoch) -> bool:
    return cursor.phase is Phase.INTENDED and cursor.intent_epoch != epoch


def _asks_for(saga: Saga, cursor: Cursor) -> Command:
    if cursor.phase is not Phase.INTENDED:
        return Wait(cursor.retry_at, cursor.position)
    if cursor.asking:
        return Ask(cursor.position, cursor.attempt)
    if saga.definition.step(cursor.position).work is Work.CHILD:
        return Begin(cursor.position, cursor.kind, cursor.attempt)
    return Call(cursor.position, cursor.kind, cursor.attempt)


def decide(
    saga: Saga, outcome: Outcome, moment: Moment, cancel_reason: str | None = None, position: int | None = None
) -> tuple[Saga, tuple[Event, ...]]:
    """The events that follow from `outcome` of a command that `next_commands` gave, and the saga after them.

    `position` is the step that the outcome belongs to, 0 for the saga as a whole; without it, the first under way.
    `cancel_reason` is given once somebody has asked that the saga be undone. Raises InvariantError when the saga
    is terminal, or when the outcome cannot belong to its state.
    """
    if saga.state.terminal:
        raise InvariantError(f"saga {saga.id} is {saga.state}; nothing can come of it any more")
    script = Script(saga, moment, cancel_reason)
    cursor = saga.cursor if position is None else saga.at(position)
    if isinstance(outcome, Ready):
        _ready(script, cursor)
    elif cursor is None:
        raise InvariantError(f"saga {saga.id} has called nothing that could have given {outcome}")
    elif cursor.kind is Kind.ACTION:
        acting.decide(script, cursor, outcome)
    else:
        undoing.decide(script, cursor, outcome)
    proceed(script)
    return script.saga, tuple(script.events)


def proceed(script: Script) -> None:
    """What follows whatever has happened: the saga turns back if it must, and everything that may begin is intended."""
    if script.turn_back_wanted:
        if script.cancel_reason is not None:
            script.add(Status.CANCELLED, message=script.cancel_reason)
        else:
            script.add(Status.EXPIRED, message=f"it has taken longer than {script.saga.definition.within_s:g} s")
    if not script.saga.paused and not script.early:
        acting.intend(script)
        undoing.intend(script)


def _ready(script: Script, cursor: Cursor | None) -> None:
    if cursor is None or script.turn_back_wanted:
        return
    match cursor.phase:
        case Phase.INTENDED:
            # Intended under an older epoch: everything of that kind is intended anew.
            return
        case Phase.BACKOFF:
            script.due.add(cursor.position)
        case Phase.WAITING if cursor.kind is Kind.ACTION:
            acting.waited(script, cursor)
        case Phase.WAITING:
            undoing.waited(script, cursor)


def parked(saga: Saga, epoch: Epoch, message: str) -> Event:
    """The event that hands the saga to a person, with the reason."""
    return Event(saga.sequence + 1, Status.PARKED, epoch, code="PARKED", message=message)
