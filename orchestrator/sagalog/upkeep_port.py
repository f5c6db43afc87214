"""What the leader's upkeep needs of the saga log, whatever keeps it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestrator.saga.definition import HoldStarts
from orchestrator.saga.model import Epoch, SagaId
from orchestrator.sagalog.records import SagaRecord, TransitionRecord


@dataclass(frozen=True, slots=True)
class FinishedSaga:
    """A saga that is over, as it was read: `sequence` tells later whether it still is as it was.

    `size_bytes` is about what its input and its result take in the log.
    """

    id: SagaId
    sequence: int
    size_bytes: int


@dataclass(frozen=True, slots=True, order=True)
class Ended:
    """A place in the order in which sagas ended: that of the saga `id`, which ended at `at`."""

    at: datetime
    id: SagaId


@dataclass(frozen=True, slots=True)
class FinishedPage:
    """What a page of old sagas has that may go, and the last place that it looked at; `more`: others may follow."""

    over: tuple[FinishedSaga, ...]
    last: Ended | None
    more: bool


@dataclass(frozen=True, slots=True)
class LatelyEnded:
    """How the latest sagas of a definition ended, the last one first, since its starts were let through again.

    `held` says that its starts are held now.
    """

    let_through_at: datetime | None
    held: bool
    states: tuple[str, ...]


class HoldLog(Protocol):
    """The saga log as whoever holds starts sees it. Both methods raise LogUnavailable; what writes raises Fenced."""

    async def lately_ended(self, definition: str, rows: int) -> LatelyEnded:
        """At most `rows` sagas of the definition."""
        ...

    async def hold_starts(
        self, definition: str, policy: HoldStarts, ended: LatelyEnded, turned_back: int, epoch: Epoch
    ) -> datetime | None:
        """Hold new starts of the definition; until when. None when somebody has let them through since `ended`."""
        ...


class UpkeepLog(Protocol):
    """The saga log as the upkeep sees it. All methods raise LogUnavailable; what writes raises Fenced."""

    async def fold_tally(self, epoch: Epoch) -> int:
        """Fold some of what has changed into the sums of the tally; how many changes. 0 when none are left."""
        ...

    async def finished(self, behind: Ended | None, until: Ended | None, after_s: float, rows: int) -> FinishedPage:
        """Of the next `rows` sagas that ended well more than `after_s` seconds ago, those that may go.

        They come in the order of their ends, from behind one place up to another, that one included.
        """
        ...

    async def sagas(self, ids: Sequence[SagaId]) -> list[SagaRecord]:
        """These sagas as they lie, by id."""
        ...

    def history(self, sagas: Sequence[SagaRecord]) -> AsyncGenerator[list[TransitionRecord]]:
        """All their transitions, by saga and sequence, a bounded page at a time. Their `state` says nothing."""
        ...

    async def remove(self, sagas: Sequence[FinishedSaga], after_s: float, epoch: Epoch) -> list[SagaId]:
        """Remove those that are as they were read, and over for so long; which these were."""
        ...

    async def raise_watermark(self, margin_s: float, epoch: Epoch) -> SagaId:
        """Raise the watermark if that is due, and return it: no saga below it is kept, or will be started.

        It trails what is so now by `margin_s` seconds, at least.
        """
        ...

    async def close(self) -> None:
        """Drop the connections."""
        ...
