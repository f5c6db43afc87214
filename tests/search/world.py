"""The state of the whole world at one moment: Postgres, etcd, the replicas, the participants, the network.

A value: immutable, hashable, equal when nothing can tell the two apart. Named tuples and not dataclasses, because a
search makes and hashes millions of them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Answer(IntEnum):
    """What a driver learns; READY when it had only to wait."""

    READY = 0
    OK = 1
    NO = 2
    UNKNOWN = 3


class Direction(IntEnum):
    """The two calls of a step."""

    ACTION = 0
    COMPENSATION = 1


class Key(IntEnum):
    """What a participant's barrier has stored under the key of an action."""

    FREE = 0
    DONE = 1
    REFUSED = 2
    TOMBSTONE = 3


class Participant(NamedTuple):
    """One step's barrier and ledger.

    `done` and `undone` count the ledger's entries. `late` and `unintended` are kept by the observer: an action took
    effect behind its compensation; something took effect whose intent was not committed when it was called.
    """

    action: Key = Key.FREE
    compensation: bool = False
    done: int = 0
    undone: int = 0
    late: bool = False
    unintended: bool = False


class Stage(IntEnum):
    """Where a term stands."""

    ENDED = 0
    WON = 1  # It holds the key in etcd and has not raised the epoch yet.
    SCANNED = 2  # It has read the log before the raise: never in production (R2).
    RAISED = 3  # Its epoch is in the fence; it has read nothing yet.
    IDLE = 4  # It drives nothing, and looks for pending sagas.
    DECIDING = 5  # It knows an outcome, or has only to wait; what follows is not decided yet.
    WRITING = 6  # Its statement is under way to Postgres, or there.
    CALLING = 7  # Its call is under way to a participant.


class Term(NamedTuple):
    """One generation of leadership, in the memory of its replica.

    `shape` is the saga as this term knows it; `lag` how many rows the log has beyond that. `plan` is what it writes.
    `begun`: Postgres has begun the statement (snapshot and locks taken). `again`: the statement is a repetition.
    `intended`: the intent of the call stood in the log when the call was sent.
    """

    stage: Stage
    shape: int = -1
    lag: int = 0
    answer: Answer = Answer.READY
    plan: int = -1
    begun: bool = False
    again: bool = False
    intended: bool = False


class Statement(NamedTuple):
    """A write that nobody waits for any more: its connection was lost, or its writer is gone."""

    tag: int  # Always 0: orders statements before calls.
    epoch: int
    plan: int
    lag: int
    begun: bool


class Call(NamedTuple):
    """A call that nobody waits for any more."""

    tag: int  # Always 1.
    position: int
    direction: Direction
    intended: bool


Message = Statement | Call


class Client(IntEnum):
    """What the client of StartSaga knows."""

    NEW = 0
    UNHEARD = 1  # The saga is stored, the answer was lost.
    TOLD = 2


class World(NamedTuple):
    """Everything. `terms[g - 1]` is generation g, whose epoch is g; etcd has given its key away `len(terms)` times.

    `log` is the fold of the committed rows. `stale_rows`: a row was committed under an epoch after the raise of the
    next one. `defect` says what production's own checks would have found.
    """

    client: Client
    sagas: int
    cancel: bool
    fence: int
    log: int
    stale_rows: bool
    defect: str
    participants: tuple[Participant, ...]
    terms: tuple[Term, ...]
    network: tuple[Message, ...]
    faults: int


ENDED = Term(Stage.ENDED)
WON = Term(Stage.WON)
RAISED = Term(Stage.RAISED)
IDLE = Term(Stage.IDLE)
