"""What an event is, where it stands in the order of all events, and which events somebody wants.

Pure: values only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from orchestrator.saga.events import Status
from orchestrator.saga.model import SagaId, SagaState
from orchestrator.sagalog.records import TransitionRecord, is_terminal

_CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,18})(?:-([0-9]{1,18}))?", re.ASCII)
_ALL_THAT_BEGIN = ".*"

SAGA_TYPE = "baton.saga.v1."
STEP_TYPE = "baton.step.v1."


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the order of events: behind the row of this epoch and log position.

    `accepted` is what retention had removed when the reader began, by its highest log position: the reader began at the
    earliest event that was kept, and knows that earlier ones are gone.
    """

    epoch: int
    position: int
    accepted: int = field(default=0, compare=False)

    def __str__(self) -> str:
        text = f"{self.epoch}-{self.position}"
        return f"{text}-{self.accepted}" if self.accepted > self.position else text

    def expired(self, horizon: int) -> bool:
        """Whether something was removed, up to the log position `horizon`, that this reader may not have seen."""
        return horizon > max(self.position, self.accepted)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The cursor that `text` spells. Raises ValueError."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r:.60} is not a cursor, which is two numbers such as 41-1007")
        return cls(int(match[1]), int(match[2]), int(match[3] or 0))


def earliest(horizon: int) -> Cursor:
    """The place before all events that are kept, when those up to the log position `horizon` may be gone."""
    return Cursor(0, 0, horizon)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event: a row of the step log, and what its saga's row says of the saga."""

    cursor: Cursor
    definition: str
    version: int
    transition: TransitionRecord

    @property
    def id(self) -> str:
        """Unique for each transition, and the same however often it is sent."""
        return f"{self.transition.saga_id}/{self.transition.sequence}"

    @property
    def type(self) -> str:
        """The transition by which a saga ends is one of the saga; else it is one of the step, if it has one."""
        transition = self.transition
        if is_terminal(transition.state) and not self._stays_parked:
            return SAGA_TYPE + transition.state.lower()
        return (STEP_TYPE if transition.step else SAGA_TYPE) + transition.status

    @property
    def _stays_parked(self) -> bool:
        """Whether the saga was parked before: it hears an answer or is moved, and does not end by that."""
        return self.transition.state == SagaState.FAILED and self.transition.status != Status.PARKED


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events somebody wants: those that fit every filter that is set.

    `payloads` asks for what participants said: their replies and the messages of their errors.
    """

    definitions: frozenset[str] = frozenset()
    types: tuple[str, ...] = ()
    statuses: frozenset[str] = frozenset()
    saga_id: SagaId | None = None
    payloads: bool = False

    def fits(self, event: EventRecord) -> bool:
        """Whether the event is wanted."""
        transition = event.transition
        return (
            (not self.definitions or event.definition in self.definitions)
            and (not self.statuses or transition.status in self.statuses)
            and (self.saga_id is None or transition.saga_id == self.saga_id)
            and (not self.types or any(_fits_type(event.type, wanted) for wanted in self.types))
        )


@dataclass(frozen=True, slots=True)
class EventPage:
    """A page of events in order. `end` is the place behind all that was looked at, whatever of it became an event.

    `last` says that nothing more was there; `horizon` is the highest log position that had been removed.
    """

    events: tuple[EventRecord, ...]
    end: Cursor
    last: bool
    horizon: int


@dataclass(frozen=True, slots=True)
class ConsumerRecord:
    """How far a consumer has come. `lag` counts the events behind that, up to a bound; `oldest` is the first's time."""

    name: str
    cursor: Cursor
    committed_at: datetime
    lag: int
    oldest: datetime | None
    expired: bool


def rounds(events: Sequence[EventRecord]) -> list[list[EventRecord]]:
    """Split into rounds that have at most one event of each saga, keeping each saga's order over the rounds.

    The events of a round may be sent at once: whichever of them fails and is repeated, no saga's order is disturbed, as
    long as a round begins when all of the one before has arrived.
    """
    found: list[list[EventRecord]] = []
    come: dict[SagaId, int] = {}
    for event in events:
        number = come.get(event.transition.saga_id, 0)
        come[event.transition.saga_id] = number + 1
        if number == len(found):
            found.append([])
        found[number].append(event)
    return found


def _fits_type(event_type: str, wanted: str) -> bool:
    if wanted.endswith(_ALL_THAT_BEGIN):
        return event_type.startswith(wanted.removesuffix("*"))
    return event_type == wanted
