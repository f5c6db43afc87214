"""The order flow by events: every order ends, with the effects of the orchestrated flow, each of them once."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from participants import choreography
from participants.bus import STREAM, Bus
from participants.choreography import ENDS, placed
from participants.happening import Happening, decode
from tests.integration.shop import running
from tests.nats_server import NatsServer, needs_nats

pytestmark = needs_nats

WITHIN_S = 60.0
GUIDE = Path(__file__).parents[2] / "docs" / "choreography.md"
ALL = tuple(choreography.SERVICES)
SETTINGS = {"declined_customers": "poor", "initial_stock": 1000}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path) as server:
        yield server


@asynccontextmanager
async def shop(
    dsn: str, broker: NatsServer, services: Sequence[str] = tuple(choreography.SERVICES)
) -> AsyncIterator[None]:
    """The services, each reacting to the others."""
    async with AsyncExitStack() as stack:
        for name in services:
            await stack.enter_async_context(running(choreography.SERVICES[name], dsn, broker=broker.url, **SETTINGS))
        yield


@asynccontextmanager
async def bus_to(broker: NatsServer) -> AsyncIterator[Bus]:
    bus = Bus(broker.url, "test")
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


async def place(broker: NatsServer, orders: Sequence[Happening]) -> None:
    async with bus_to(broker) as bus:
        await bus.publish([(order.id, order.type, order.encode("front")) for order in orders])


async def happened(broker: NatsServer) -> list[Happening]:
    """All that the broker was told."""
    async with bus_to(broker) as bus:
        jetstream = bus._jetstream
        count = (await jetstream.stream_info(STREAM)).state.messages
        return [decode((await jetstream.get_msg(STREAM, seq)).data or b"") for seq in range(1, count + 1)]


async def ends(broker: NatsServer, count: int) -> dict[str, Happening]:
    """How so many orders have ended."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            found = {event.order_id: event for event in await happened(broker) if event.type in ENDS}
            if len(found) >= count:
                return found
            await asyncio.sleep(0.1)


def ask(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


async def published(dsn: str) -> None:
    """Wait until the services know that the broker has what they have said, the last of it too."""
    async with asyncio.timeout(WITHIN_S):
        while any(ask(dsn, f"SELECT 1 FROM {service}.outbox") for service in ("orders", "payment", "inventory")):
            await asyncio.sleep(0.02)


def order(order_id: str, customer: str = "17850", quantity: int = 1) -> Happening:
    return placed(order_id, customer, "15.30", [("TEAPOT", quantity)])


def assert_books(dsn: str, confirmed: int, cancelled: int, refunded: int) -> None:
    """The tables of the three services agree with each other, and nothing took effect twice."""
    states = dict(ask(dsn, "SELECT state, count(*) FROM orders.customer_order GROUP BY state"))
    assert states == {key: n for key, n in (("confirmed", confirmed), ("cancelled", cancelled)) if n}
    payments = dict(ask(dsn, "SELECT undone, count(*) FROM payment.payment GROUP BY undone"))
    assert payments == {key: n for key, n in ((False, confirmed), (True, refunded)) if n}
    ((balance,),) = ask(dsn, "SELECT coalesce(sum(balance), 0)::text FROM payment.account")
    assert float(str(balance)) == pytest.approx(15.30 * confirmed)
    ((available,),) = ask(dsn, "SELECT coalesce(sum(initial - available), 0)::bigint FROM inventory.stock")
    assert available == confirmed
    for service in ("orders", "payment", "inventory"):
        assert ask(dsn, f"SELECT saga_id, step FROM {service}.ledger GROUP BY saga_id, step HAVING count(*) > 1") == []
        assert ask(dsn, f"SELECT 1 FROM {service}.outbox") == []


async def test_orders_end_as_their_services_decide(database: str, broker: NatsServer) -> None:
    orders = [
        order("good"),
        order("declined", customer="poor"),
        order("sold-out", quantity=5000),
        order("fail-order-1"),
        order("fail-database-1"),
    ]
    async with shop(database, broker):
        await place(broker, orders)
        found = await ends(broker, len(orders))
        await published(database)
    assert {name: event.type for name, event in found.items()} == {
        "good": "order.confirmed",
        "declined": "order.cancelled",
        "sold-out": "order.cancelled",
        "fail-order-1": "order.rejected",
        "fail-database-1": "order.rejected",
    }
    assert "card declined" in found["declined"].reason
    assert "out of stock" in found["sold-out"].reason
    assert "database" in found["fail-database-1"].reason
    way = [event.type for event in await happened(broker) if event.order_id == "sold-out"]
    assert way == [
        "order.placed",
        "order.created",
        "payment.charged",
        "stock.refused",
        "payment.refunded",
        "order.cancelled",
    ]
    assert_books(database, confirmed=1, cancelled=2, refunded=1)


async def test_what_is_delivered_again_has_no_second_effect(database: str, broker: NatsServer) -> None:
    orders = [order("good"), order("declined", customer="poor"), order("sold-out", quantity=5000)]
    async with shop(database, broker):
        await place(broker, orders)
        await ends(broker, len(orders))
        events = await happened(broker)
        async with bus_to(broker) as bus:
            # Under other message ids, so that the broker takes them.
            await bus.publish([(f"again-{event.id}", event.type, event.encode("front")) for event in events])
            async with asyncio.timeout(WITHIN_S):
                for service, type_ in REACTIONS:
                    durable = f"{service}-{type_.replace('.', '-')}"
                    while True:
                        info = await bus._jetstream.consumer_info(STREAM, durable)
                        if info.num_pending == info.num_ack_pending == 0:
                            break
                        await asyncio.sleep(0.05)
        await published(database)
        repeated = await happened(broker)
    # Nothing came of the repetitions.
    assert len(repeated) == 2 * len(events)
    assert_books(database, confirmed=1, cancelled=2, refunded=1)


REACTIONS = [
    ("orders", "order.placed"),
    ("orders", "stock.reserved"),
    ("orders", "payment.refused"),
    ("orders", "payment.refunded"),
    ("payment", "order.created"),
    ("payment", "stock.refused"),
    ("inventory", "payment.charged"),
]


async def test_orders_end_once_though_broker_database_and_services_are_interrupted(
    database: str, broker: NatsServer
) -> None:
    kinds = [("good", "17850", 1), ("poor", "poor", 1), ("sold", "17850", 5000)]
    orders = [order(f"{kind}-{n}", customer, quantity) for n in range(15) for kind, customer, quantity in kinds]
    await place(broker, orders[:20])
    async with shop(database, broker):
        await ends(broker, 5)
        ask(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'participant-%'",
        )
        await ends(broker, 10)
        broker.process.kill()
        await broker.process.wait_exit()
        broker.start()
        await place(broker, orders[20:])
    # One of them is away for a while: the others go on with what they have.
    async with shop(database, broker, ("orders-by-events", "inventory-by-events")):
        pass
    async with shop(database, broker):
        found = await ends(broker, len(orders))
        await published(database)
    assert {event.type for name, event in found.items() if name.startswith("good")} == {"order.confirmed"}
    assert {event.type for name, event in found.items() if not name.startswith("good")} == {"order.cancelled"}
    assert_books(database, confirmed=15, cancelled=30, refunded=15)
    counted = [event.id for event in await happened(broker)]
    assert len(set(counted)) == len(counted)


async def test_the_order_of_the_guide_is_confirmed(database: str, broker: NatsServer) -> None:
    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0]
    asked = code.replace("nats://127.0.0.1:4222", broker.url)
    assert asked != code
    async with shop(database, broker):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", asked)
        assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0
        assert (await ends(broker, 1))["o-1"].type == "order.confirmed"


def test_a_happening_is_read_back() -> None:
    event = order("o-1").then("payment.refused", "card declined")
    assert decode(event.encode("payment")) == event
    for nonsense in (
        b"",
        b"[]",
        b"{}",
        b'{"data": {}}',
        b'{"type": 1, "subject": "", "data": {"order": {}, "reason": ""}}',
    ):
        with pytest.raises(ValueError, match=r"not an event|Expecting value"):
            decode(nonsense)
