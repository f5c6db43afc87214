"""A picture of a cluster at work that is renewed in place on a terminal; on anything else, lines as things happen."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

_EVENTS_SHOWN = 8
# Older ones than these are told at the end no more: a soak has thousands.
_EVENTS_KEPT = 2000
_BARS = " ▁▂▃▄▅▆▇█"

STATES = ("PENDING", "RUNNING", "COMPENSATING", "COMPLETED", "COMPENSATED", "FAILED")
_COLOURS = {"COMPLETED": "green", "COMPENSATED": "yellow", "FAILED": "red"}


class Role(StrEnum):
    """What a replica is seen to be."""

    LEADER = "leader"
    STANDBY = "standby"
    FROZEN = "frozen"
    KILLED = "killed"
    SILENT = "no answer"


_STYLES = {Role.LEADER: "bold green", Role.FROZEN: "magenta", Role.KILLED: "red", Role.SILENT: "red"}


@dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """One replica of the picture. `process` is its process id, or its address."""

    name: str
    process: str
    role: Role


def role(*, alive: bool, suspended: bool, leads: bool) -> Role:
    """What a process on this machine is."""
    if not alive:
        return Role.KILLED
    if suspended:
        return Role.FROZEN
    return Role.LEADER if leads else Role.STANDBY


def replica_table(replicas: Iterable[ReplicaSeen], process: str = "pid") -> Table:
    """The replicas, one below the other."""
    table = Table("replica", process, "role", title="replicas", title_justify="left")
    for replica in replicas:
        table.add_row(replica.name, replica.process, Text(replica.role, style=_STYLES.get(replica.role, "")))
    return table


def saga_table(states: Mapping[str, int]) -> Table:
    """The sagas, by state."""
    table = Table(title="sagas", title_justify="left")
    for name in STATES:
        table.add_column(name.lower(), style=_COLOURS.get(name, ""), justify="right")
    table.add_row(*(str(states.get(name, 0)) for name in STATES))
    return table


def sparkline(values: Sequence[float]) -> str:
    """A character for each value, as high as its share of the largest."""
    largest = max(values, default=0.0)
    if largest <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[round(value / largest * (len(_BARS) - 1))] for value in values)


@dataclass(slots=True)
class Screen:
    """Events as they come, and the picture in between. With `dated` each event has the seconds since the beginning."""

    console: Console
    dated: bool = True
    started_at_s: float = field(default_factory=time.monotonic)
    _events: list[str] = field(default_factory=list)
    _live: Live | None = None

    @property
    def live(self) -> bool:
        """Whether a picture is shown."""
        return self._live is not None

    def tell(self, event: str) -> None:
        """Show an event."""
        line = f"{time.monotonic() - self.started_at_s:7.2f} s  {event}" if self.dated else event
        if self._live is None:
            self._print(line)
            return
        self._events.append(line)
        del self._events[:-_EVENTS_KEPT]

    def draw(self, *parts: RenderableType) -> None:
        """Renew the picture, with the last events below it."""
        if self._live is not None:
            last = (Text(line, no_wrap=True, overflow="ellipsis") for line in self._events[-_EVENTS_SHOWN:])
            self._live.update(Group(*parts, *last), refresh=True)

    @contextmanager
    def showing(self) -> Iterator[None]:
        """While entered, the picture is renewed in place if this is a terminal; afterwards its events stay as lines."""
        if not self.console.is_terminal:
            yield
            return
        self._events.clear()
        try:
            with Live(console=self.console, transient=True, auto_refresh=False) as self._live:
                yield
        finally:
            self._live = None
            for line in self._events:
                self._print(line)

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
