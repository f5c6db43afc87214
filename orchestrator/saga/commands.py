"""What a saga asks for next, and what can come of it.

Pure: values only. The driver performs commands; machine.py turns what came of them into events.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator.saga.model import Json, Kind


@dataclass(frozen=True, slots=True)
class Intend:
    """Write the intents of what comes next under the present epoch; nothing may be called before that."""


@dataclass(frozen=True, slots=True)
class Call:
    """Call the participant; its intent is durable under the present epoch."""

    position: int
    kind: Kind
    attempt: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Call the status method of the step; the intent to do so is durable under the present epoch."""

    position: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin the step's child saga (ACTION), or have it undone (COMPENSATION); the intent is durable."""

    position: int
    kind: Kind
    attempt: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before this time (None: until something is heard), then go on with the step at `position`.

    Position 0 stands for the saga as a whole.
    """

    until: datetime | None
    position: int = 0


Command = Intend | Call | Ask | Begin | Wait


@dataclass(frozen=True, slots=True)
class Ready:
    """There is nothing more to wait for: go on with the step that waited, or with whatever comes next."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The participant did it, and said so."""

    result: Json


@dataclass(frozen=True, slots=True)
class Refused:
    """The participant said no: this attempt took no effect."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Neither success nor failure: it may have taken effect (a timeout, a lost connection, an error inside)."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Held:
    """The participant is not to be reached, which says nothing about the step: try again in `wait_s` seconds.

    `called` says that the attempt was made, so that it may have taken effect.
    """

    code: str
    message: str
    wait_s: float
    called: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """The participant, or the child saga, answers later."""


Outcome = Ready | Succeeded | Refused | Unknown | Held | Accepted
