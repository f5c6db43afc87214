"""A span as Baton makes it, and where it goes. Nothing here needs OpenTelemetry: that is for export.py alone.

Pure: values only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.saga.model import SagaId

Attributes = dict[str, str | int | bool]


class Side(StrEnum):
    """Where the work of a span is done, as seen from here."""

    INTERNAL = "internal"
    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Link:
    """Another span that this one has to do with, of whatever trace, and how."""

    trace: int
    span: int
    relation: str


@dataclass(frozen=True, slots=True)
class Span:
    """One span that is over. `parent` is a span of the same saga, or 0. Times are nanoseconds since 1970.

    `failed` says why, by a code and never in a participant's words; None when it did not fail.
    """

    saga: SagaId
    id: int
    parent: int
    name: str
    side: Side
    start_ns: int
    end_ns: int
    attributes: Attributes
    failed: str | None = None
    links: tuple[Link, ...] = ()


# Takes a span at once, and never waits.
Sink = Callable[[Span], None]
