"""What a person sees while the demo runs: a picture that is renewed in place on a terminal, lines anywhere else."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from rich.text import Text

from orchestrator.audit.gauge import Gauge, Picture
from orchestrator.audit.screen import STATES, ReplicaSeen, Screen, replica_table, role, saga_table
from orchestrator.demo.feed import Feed
from orchestrator.embedded.cluster import Cluster

_RENEW_S = 0.25
_LINE_EVERY_S = 2.0


@dataclass(slots=True)
class DemoScreen(Screen):
    """The demo's picture. `retries` counts what the client had to ask again."""

    picture: Picture = field(default_factory=Picture)
    retries: int = 0

    def asked_again(self, endpoint: str, why: str) -> None:
        """Count a call that one replica did not answer and that goes to the next."""
        self.retries += 1

    async def follow(self, cluster: Cluster, feed: Feed, gauge: Gauge) -> None:
        """Renew the picture until cancelled."""
        line_due_s = time.monotonic() + _LINE_EVERY_S
        while True:
            self.picture = await gauge.picture()
            if self.live:
                self._draw(cluster, feed)
            elif time.monotonic() >= line_due_s:
                line_due_s += _LINE_EVERY_S
                self.tell(self._progress(feed))
            await asyncio.sleep(_RENEW_S)

    def _progress(self, feed: Feed) -> str:
        states = " ".join(f"{name.lower()} {count}" for name in STATES if (count := self.picture.states.get(name)))
        return (
            f"{feed.answered}/{len(feed.invoices)} started, {self.picture.holder or 'nobody'} leads epoch "
            f"{self.picture.epoch}: {states or 'no sagas'}"
        )

    def _draw(self, cluster: Cluster, feed: Feed) -> None:
        seen = [
            ReplicaSeen(
                replica.name,
                str(replica.pid),
                role(alive=replica.alive, suspended=replica.suspended, leads=replica.name == self.picture.holder),
            )
            for replica in cluster.replicas
        ]
        fed = Text(
            f"epoch {self.picture.epoch}; {feed.answered} of {len(feed.invoices)} orders started, "
            f"{len(feed.failed)} failed, {self.retries} calls asked again"
        )
        self.draw(replica_table(seen), saga_table(self.picture.states), fed)
