"""What happened in a run, in order: the same for a seed in every process, and readable."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.simulation.loop import BEGINNING_S


class Trace:
    """Remembers events with their virtual times. Each has a name and what there is to say about it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.events: list[tuple[float, str, tuple[Any, ...]]] = []
        self.counts: Counter[str] = Counter()

    def note(self, event: str, *details: Any) -> None:
        """Remember that something happened now. Details must print the same in every process."""
        self.counts[event] += 1
        self.events.append((self._clock(), event, details))

    def count(self, event: str, number: int = 1) -> None:
        """Count something that happens too often to be remembered."""
        self.counts[event] += number

    def lines(self) -> Iterator[str]:
        """The run in words, a line an event; times in seconds since its beginning."""
        for at_s, event, details in self.events:
            yield f"{at_s - BEGINNING_S:11.6f}  {event:<18} {' '.join(map(str, details))}".rstrip()

    def digest(self) -> str:
        """SHA-256 over all lines and counts."""
        digest = hashlib.sha256()
        for line in self.lines():
            digest.update(line.encode())
            digest.update(b"\n")
        digest.update(repr(sorted(self.counts.items())).encode())
        return digest.hexdigest()
