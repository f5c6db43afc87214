"""Where the stories are told: a cluster, and everybody who is there beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster
from orchestrator.embedded.nats import NatsServer, nats_program
from tests.cluster.house import WITHIN_S, House
from tests.integration.flawed_participant import Flawed, flawed_participant

from .clerk import Clerk, clerk_at_work
from .postman import Postman
from .scribe import Scribe, scribe_at_work

# Somebody who is to be certified: his address, and himself.
Newcomer = tuple[str, Flawed]


@dataclass(frozen=True, slots=True)
class Stage:
    """`broker` is None where the machine has none, `archive` where sagas that have ended stay in the log."""

    house: House
    clerk: Clerk
    postman: Postman
    newcomer: Newcomer
    scribe: Scribe
    broker: NatsServer | None
    archive: Path | None = None

    @property
    def addresses(self) -> dict[str, str]:
        """The variables by which definitions name their services."""
        newcomer, _ = self.newcomer
        people = {"CLERK": self.clerk.address, "NEWCOMER": newcomer, "SCRIBE": self.scribe.address}
        return {**self.house.cluster.addresses, **{f"{name}_ADDRESS": address for name, address in people.items()}}


@asynccontextmanager
async def set_up(folder: Path, settings: Mapping[str, str], archive: Path | None = None) -> AsyncIterator[Stage]:
    """Three replicas, of which one that was killed comes back, one etcd member, Postgres, the shop, and a few more.

    The replicas publish events to the broker, where there is one.
    """
    up: asyncio.Future[Stage] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def live() -> None:
        with ExitStack() as stack:
            broker = stack.enter_context(NatsServer(folder)) if nats_program() is not None else None
            relay = {} if broker is None else {"BATON_EVENTS_BROKER": broker.url}
            async with (
                Cluster(
                    folder,
                    etcd_members=1,
                    settings={**relay, **settings},
                    definitions_dir=None,
                    restart_replicas=True,
                    unsafe_no_fsync=True,
                ) as cluster,
                Client(cluster.api_endpoints, deadline_s=WITHIN_S, attempt_max_s=10.0) as client,
                clerk_at_work(cluster.shop_dsn, cluster.api_endpoints) as clerk,
                flawed_participant() as newcomer,
                scribe_at_work(cluster.postgres, folder / "scribe") as scribe,
            ):
                postman = Postman(cluster.shop_dsn, cluster.api_endpoints)
                up.set_result(Stage(House(cluster, client), clerk, postman, newcomer, scribe, broker, archive))
                await over.wait()

    # A fixture is set up and torn down in two tasks; a cluster belongs to one.
    life = asyncio.create_task(live())
    begun: set[asyncio.Future[Any]] = {life, up}
    await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
    if life.done():
        await life
    yield up.result()
    over.set()
    await life
