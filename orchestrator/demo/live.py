"""What a person sees while the demo runs: a picture that is renewed in place on a terminal, lines anywhere else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.audit.gauge import Gauge, Picture
from orchestrator.demo.feed import Feed
from orchestrator.embedded.cluster import Cluster
from orchestrator.embedded.servers import Replica

_RENEW_S = 0.25
_LINE_EVERY_S = 2.0
_EVENTS_SHOWN = 8

_COLOURS = {"COMPLETED": "green", "COMPENSATED": "yellow", "FAILED": "red"}
_ORDER = ("PENDING", "RUNNING", "COMPENSATING", "COMPLETED", "COMPENSATED", "FAILED")


@dataclass(slots=True)
class Screen:
    """Events as they come, and the state in between. `retries` counts what the client had to ask again."""

    console: Console
    started_at_s: float = field(default_factory=time.monotonic)
    picture: Picture = field(default_factory=Picture)
    retries: int = 0
    _events: list[str] = field(default_factory=list)
    _live: Live | None = None

    def tell(self, event: str) -> None:
        """Show an event, with the seconds since the beginning."""
        line = f"{time.monotonic() - self.started_at_s:7.2f} s  {event}"
        self._events.append(line)
        if self._live is None:
            self._print(line)

    def asked_again(self, endpoint: str, why: str) -> None:
        """Count a call that one replica did not answer and that goes to the next."""
        self.retries += 1

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

    async def follow(self, cluster: Cluster, feed: Feed, gauge: Gauge) -> None:
        """Renew the picture until cancelled."""
        line_due_s = time.monotonic() + _LINE_EVERY_S
        while True:
            self.picture = await gauge.picture()
            if self._live is not None:
                self._live.update(self._drawn(cluster, feed), refresh=True)
            elif time.monotonic() >= line_due_s:
                line_due_s += _LINE_EVERY_S
                self.tell(self._progress(feed))
            await asyncio.sleep(_RENEW_S)

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _progress(self, feed: Feed) -> str:
        states = " ".join(f"{name.lower()} {count}" for name in _ORDER if (count := self.picture.states.get(name)))
        return (
            f"{feed.answered}/{len(feed.invoices)} started, {self.picture.holder or 'nobody'} leads epoch "
            f"{self.picture.epoch}: {states or 'no sagas'}"
        )

    def _drawn(self, cluster: Cluster, feed: Feed) -> RenderableType:
        replicas = Table(title="replicas", title_justify="left")
        for column in ("replica", "pid", "role"):
            replicas.add_column(column)
        for replica in cluster.replicas:
            replicas.add_row(replica.name, str(replica.pid), _role(replica, replica.name == self.picture.holder))
        sagas = Table(title="sagas", title_justify="left")
        for name in _ORDER:
            sagas.add_column(name.lower(), style=_COLOURS.get(name, ""), justify="right")
        sagas.add_row(*(str(self.picture.states.get(name, 0)) for name in _ORDER))
        fed = Text(
            f"epoch {self.picture.epoch}; {feed.answered} of {len(feed.invoices)} orders started, "
            f"{len(feed.failed)} failed, {self.retries} calls asked again"
        )
        return Group(replicas, sagas, fed, *(Text(line) for line in self._events[-_EVENTS_SHOWN:]))


def _role(replica: Replica, leads: bool) -> Text:
    if not replica.alive:
        return Text("killed", style="red")
    if replica.suspended:
        return Text("frozen", style="magenta")
    return Text("leader", style="bold green") if leads else Text("standby")
