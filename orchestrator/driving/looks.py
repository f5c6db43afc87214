"""Which reads of the log may be acted upon.

A read shows sagas as they were when it began. Meanwhile a saga may have been driven, written and left: driven once
more from that read, it would be driven as it was. So every look at the log knows which sagas were left while it was
open, and is not believed about them; whoever meets one looks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.saga.model import SagaId


class Look:
    """One look at the log, from before its first read until all that it shows was acted upon."""

    def __init__(self) -> None:
        self._left: set[SagaId] = set()

    def left(self, saga_id: SagaId) -> None:
        """Nobody drives this saga any more; what it was written meanwhile this look may not show."""
        self._left.add(saga_id)

    def trusted(self, saga_id: SagaId) -> bool:
        """Whether what this look shows of a saga that nobody drives is all that was written of it."""
        return saga_id not in self._left


class Looks:
    """The looks that are open at this moment."""

    def __init__(self) -> None:
        self._open: set[Look] = set()

    @contextmanager
    def open(self) -> Iterator[Look]:
        """A look, for as long as it is acted upon."""
        look = Look()
        self._open.add(look)
        try:
            yield look
        finally:
            self._open.discard(look)

    def left(self, saga_id: SagaId) -> None:
        """Nobody drives this saga any more: no open look is to be believed about it."""
        for look in self._open:
            look.left(saga_id)
