"""What the upkeep needs of participants, and of whoever knows more about sagas than the log's row says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.saga.model import Epoch, SagaId


@dataclass(frozen=True, slots=True)
class Watermark:
    """No saga of the shard below `before` is kept, or will be started; said by the leader of `epoch`."""

    before: SagaId
    shard: int
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Purged:
    """What a participant has removed of its barrier in one call; `done` says that nothing below is left."""

    removed: int
    done: bool


class Barriers(Protocol):
    """The barriers of participants, from outside."""

    async def purge(self, service: str, watermark: Watermark, timeout_s: float) -> Purged | None:
        """Let the participant at `service` forget some rows behind the watermark; None when it offers no purge.

        Raises Retryable when it does not answer, or not within `timeout_s` seconds.
        """
        ...


class Keepers(Protocol):
    """Whoever has a say in which finished sagas stay."""

    async def kept(self, sagas: Sequence[SagaId]) -> Collection[SagaId]:
        """Those of the sagas that must not go yet. Raises Retryable."""
        ...


class NobodyKeeps:
    """Implements `Keepers`: a saga that is over concerns nobody else."""

    async def kept(self, sagas: Sequence[SagaId]) -> Collection[SagaId]:
        """None."""
        return ()
