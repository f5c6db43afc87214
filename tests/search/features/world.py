"""The world in which a feature of the saga language is searched, at one moment: a value, and a small one.

There is one leader in it, that of the highest epoch. What a leader that was overthrown can still do is what it has
sent: those calls stay in `network`. Its statements find no fence row. test_reductions.py shows, on steps that follow
one another, that this is all there is. A statement is one step for the same reason: what is between its beginning and
its commit is searched there.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Sort(IntEnum):
    """What a leader has under way for a step."""

    ACTION = 0
    COMPENSATION = 1
    STATUS = 2  # It asks the status method what became of the action.
    BEGIN_CHILD = 3  # A statement to Postgres: the child saga is there behind it.
    UNDO_CHILD = 4  # A statement to Postgres: the child saga is told to undo itself.


CHILD = frozenset({Sort.BEGIN_CHILD, Sort.UNDO_CHILD})


class Key(IntEnum):
    """What a participant's barrier has stored under the key of an action."""

    FREE = 0
    DONE = 1
    REFUSED = 2
    TOMBSTONE = 3
    ACCEPTED = 4  # It answers later.
    ASKED = 5  # A question has left a tombstone for all attempts up to `asked`.


# The number of a request that cannot be made of the saga.
UNMADE = -1


class Call(NamedTuple):
    """A call, or a statement of a leader, under way. `intended`: its intent stood in the log when it was sent.

    `made` is the number of its request, where requests differ: UNMADE says that it cannot be made.
    """

    saga: int
    position: int
    sort: Sort
    attempt: int
    intended: bool
    made: int = 0


class Participant(NamedTuple):
    """One step's barrier and ledger. `done` and `undone` count the ledger's entries.

    `heard` and `heard_undo` are the requests, by number, that came first under the keys of the action and the
    compensation.
    """

    action: Key = Key.FREE
    compensation: bool = False
    done: int = 0
    undone: int = 0
    asked: int = 0
    heard: int = 0
    heard_undo: int = 0


class Stage(IntEnum):
    """What the log says of a pause."""

    NONE = 0
    STORED = 1  # Somebody has asked for it.
    HEEDED = 2  # A leader has said that it goes by it.
    ENDED = 3  # Somebody has ended it.
    RELEASED = 4  # A leader has said that it has let go on what it held.


class Stop(NamedTuple):
    """A pause of a definition or a participant. `known`: the leader goes by it; `freed`: it has let go on it."""

    stage: Stage = Stage.NONE
    known: bool = False
    freed: bool = False


class Row(NamedTuple):
    """A saga in Postgres: the fold of its rows (negative: it is not there), and what others want of it.

    `cancel`: somebody wants it cancelled. `queue`: the signals that nobody has heeded yet.
    """

    log: int
    cancel: bool = False
    queue: tuple[int, ...] = ()


class Driver(NamedTuple):
    """What the leader does for one saga.

    `awake`: it goes on by itself; else the saga has left its memory, and a look at the log must find it. `plan` is what
    it writes, none when negative; `written`: that is committed, and the leader has not heard so. `calls` are under way.
    """

    awake: bool = False
    plan: int = -1
    written: bool = False
    calls: tuple[Call, ...] = ()


class World(NamedTuple):
    """Everything. `epoch` is that of the one leader, 0 before there is any; `age` is the time.

    `scanned`: the leader has read what the former one left. `posted` has a bit for each thing that others may say
    once. `intended` has, for each saga, a bit for each step whose action was ever intended. `flaw` is what an observer
    has seen that must never happen: the invariant and the words. `stops` are pauses of more than a saga.
    """

    epoch: int
    age: int
    scanned: bool
    rows: tuple[Row, ...]
    drivers: tuple[Driver, ...]
    participants: tuple[tuple[Participant, ...], ...]
    network: tuple[Call, ...]
    posted: int
    intended: tuple[int, ...]
    faults: int
    flaw: tuple[str, str] | None
    stops: tuple[Stop, ...] = ()


ASLEEP = Driver()


def with_row(world: World, number: int, row: Row) -> World:
    """The world in which the saga's row is as given."""
    return world._replace(rows=(*world.rows[:number], row, *world.rows[number + 1 :]))


def with_driver(world: World, number: int, driver: Driver) -> World:
    """The world in which the leader does this for the saga."""
    return world._replace(drivers=(*world.drivers[:number], driver, *world.drivers[number + 1 :]))


def with_participant(world: World, number: int, position: int, participant: Participant) -> World:
    """The world in which the participant of this step is as given."""
    several = world.participants[number]
    several = (*several[: position - 1], participant, *several[position:])
    return world._replace(participants=(*world.participants[:number], several, *world.participants[number + 1 :]))


def told(world: World, number: int, signal: int) -> World:
    """The world in which one more signal waits for the saga; the same twice would be heeded like once."""
    row = world.rows[number]
    return world if signal in row.queue else with_row(world, number, row._replace(queue=(*row.queue, signal)))
