"""The order flow without an orchestrator, in the stories: three services that react to each other's events.

They are processes of their own, on a database of their own in the participants' server, with the tables that the
orchestrated services have in theirs: the same order can be told in both, and the books compared.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg

from orchestrator.embedded.cluster import Cluster
from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.nats import NatsServer
from orchestrator.embedded.servers import Participant
from participants.bus import STREAM, Bus
from participants.choreography import ENDS, PLACED, SERVICES, placed
from participants.happening import Happening, decode
from tests.cluster.house import eventually

DATABASE = "shop_by_events"
_AMOUNT = "15.30"
_ARTICLE = "TEAPOT"
_COUNT = b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
# A service that waits for a lock in the transaction of its effect.
_AT_IT = _COUNT + b"application_name = %s AND wait_event_type = 'Lock'"


@dataclass(slots=True)
class ShopByEvents:
    """Open from `open` to `close`, over a broker that is somebody else's."""

    cluster: Cluster
    broker: NatsServer
    bus: Bus = field(init=False)
    dsn: str = ""
    services: dict[str, Participant] = field(default_factory=dict)
    ports: tuple[int, ...] = ()

    async def open(self) -> None:
        """Have all three started. What is ordered meanwhile, the broker keeps for them."""
        self.dsn = await asyncio.to_thread(self.cluster.postgres.create_database, DATABASE)
        self.ports = free_ports(len(SERVICES))
        for name, port in zip(SERVICES, self.ports, strict=True):
            settings = {"PARTICIPANT_BROKER": self.broker.url}
            service = Participant(name, port, self.dsn, settings, self.cluster.log_dir)
            self.services[name] = service
            service.start()
        self.bus = Bus(self.broker.url, "front")
        await self.bus.open()

    async def close(self) -> None:
        """End all of it, where it is open."""
        if self.services:
            await self.bus.close()
        for service in self.services.values():
            await service.close()
            await asyncio.to_thread(service.stop)
        release_ports(self.ports)
        self.services, self.ports = {}, ()

    async def place(self, order_id: str, quantity: int) -> None:
        """What the front of the shop says when somebody orders."""
        order = placed(order_id, "17850", _AMOUNT, [(_ARTICLE, quantity)])
        await self.bus.publish([(order.id, order.type, order.encode("front"))])

    async def end(self, order_id: str) -> list[Happening]:
        """Wait for the end of an order; what has happened to it, in the order of the broker."""
        way: list[Happening] = []

        async def ended() -> bool:
            way[:] = [event for event in await self._happened() if event.order_id == order_id]
            return bool(way) and way[-1].type in ENDS

        await eventually(ended, f"the end of {order_id} in the shop by events")
        return way

    async def kill_at_work(self, service: str, order_id: str, quantity: int) -> None:
        """Place an order, and kill -9 a service in the middle of its part, which it has begun and not committed."""
        name = f"{service}-by-events"
        async with await psycopg.AsyncConnection.connect(self.dsn) as holder:
            # Its ledger is written last, in the transaction of inbox, effect and outbox.
            await holder.execute(f"LOCK TABLE {service}.ledger".encode())
            await self.place(order_id, quantity)

            async def at_it() -> bool:
                return await self._one(_AT_IT, [f"participant-{service}"]) > 0

            await eventually(at_it, f"{name} to be at work on {order_id}")
            self.services[name].kill()
            await self.services[name].wait_exit()

    def back(self, service: str) -> None:
        """A service that was killed is started again."""
        self.services[f"{service}-by-events"].start()

    async def all_again(self) -> None:
        """The broker delivers everything once more, under other ids of messages; wait until all of it was handled."""
        events = await self._happened()
        await self.bus.publish([(f"again-{event.id}", event.type, event.encode("front")) for event in events])

        async def handled() -> bool:
            jetstream: Any = self.bus._jetstream
            consumers = await jetstream.consumers_info(STREAM)
            return all(consumer.num_pending == consumer.num_ack_pending == 0 for consumer in consumers)

        await eventually(handled, "everything to be handled once more")
        # Nothing has come of it.
        assert Counter(event.id for event in await self._happened()) == Counter(2 * [event.id for event in events])

    async def assert_books(self) -> None:
        """No effect twice, nothing that happened kept back, and every order paid and delivered, or neither."""
        for service in ("orders", "payment", "inventory"):
            keys = f"SELECT FROM {service}.ledger GROUP BY saga_id, step HAVING count(*) > 1"
            twice = f"SELECT count(*) FROM ({keys}) AS t"
            assert await self._one(twice.encode()) == 0, f"{service}: an effect happened twice"

            async def told(service: str = service) -> bool:
                return await self._one(f"SELECT count(*) FROM {service}.outbox".encode()) == 0

            await eventually(told, f"{service} to tell what has happened")
        confirmed = await self._one(b"SELECT count(*) FROM orders.customer_order WHERE state = 'confirmed'")
        paid = await self._one(b"SELECT count(*) FROM payment.payment WHERE NOT undone")
        gone = await self._one(b"SELECT coalesce(sum(initial - available), 0)::bigint FROM inventory.stock")
        placed_ = len({event.order_id for event in await self._happened() if event.type == PLACED})
        ended = await self._one(b"SELECT count(*) FROM orders.customer_order WHERE state IN ('confirmed', 'cancelled')")
        assert (paid, gone, ended) == (confirmed, confirmed, placed_)

    async def _happened(self) -> list[Happening]:
        jetstream: Any = self.bus._jetstream
        count = (await jetstream.stream_info(STREAM)).state.messages
        return [decode((await jetstream.get_msg(STREAM, seq)).data or b"") for seq in range(1, count + 1)]

    async def _one(self, query: bytes, parameters: list[str] | None = None) -> int:
        async with await psycopg.AsyncConnection.connect(self.dsn, autocommit=True) as connection:
            row = await (await connection.execute(query, parameters)).fetchone()
        assert row is not None
        return int(row[0])
