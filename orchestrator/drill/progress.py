"""What a drill or a soak is at, for a person who looks on. Written by who makes the faults, read by who draws."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_MEASURES_MAX = 6


@dataclass(slots=True)
class Progress:
    """The fault under way, which repetition of how many (0: without an end), and the last measures in words."""

    fault: str = ""
    number: int = 0
    of: int = 0
    measures: deque[str] = field(default_factory=lambda: deque(maxlen=_MEASURES_MAX))
