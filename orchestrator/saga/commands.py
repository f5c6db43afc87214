"""What a saga asks for next, and what can come of it.

Pure: values only. The driver performs commands; machine.py turns what came of them into events.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator.saga.model import Json, Kind


@dataclass(frozen=True, slots=True)
class Intend:
    """Write the intent of the next attempt under the present epoch; nothing may be called before that."""


@dataclass(frozen=True, slots=True)
class Call:
    """Call the participant; its intent is durable under the present epoch."""

    position: int
    kind: Kind
    attempt: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before this time, then write the intent of the next attempt."""

    until: datetime


Command = Intend | Call | Wait


@dataclass(frozen=True, slots=True)
class Ready:
    """There is nothing more to wait for: the next intent can be written."""


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


Outcome = Ready | Succeeded | Refused | Unknown
