"""The audit on what real participants wrote: it reads their ledgers, and finds a double effect and stolen stock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest

from orchestrator.audit.evidence import Acknowledgement
from orchestrator.audit.judge import audit
from orchestrator.embedded.postgres import Postgres
from orchestrator.sagalog.migrate import migrate
from participants import inventory, payment
from participants.pb.shop.v1 import inventory_pb2, payment_pb2
from tests.integration.shop import Client, Reply, action, compensation, connected, running

DONE, UNDONE = (str(UUID(int=number)) for number in (1, 2))

DEFINITION = """
name: order
steps:
  - {name: reserve, action: {method: x.Y/X}, compensation: {method: x.Y/Z}}
  - {name: charge, action: {method: x.Y/X}, compensation: {method: x.Y/Z}}
"""

STEPS = [
    (DONE, 1, "reserve", "executing"),
    (DONE, 2, "reserve", "completed"),
    (DONE, 3, "charge", "executing"),
    (DONE, 4, "charge", "completed"),
    (UNDONE, 1, "reserve", "executing"),
    (UNDONE, 2, "reserve", "completed"),
    (UNDONE, 3, "charge", "executing"),
    (UNDONE, 4, "charge", "unknown"),
    (UNDONE, 5, "charge", "compensating"),
    (UNDONE, 6, "charge", "compensated"),
    (UNDONE, 7, "reserve", "compensating"),
    (UNDONE, 8, "reserve", "compensated"),
]


@pytest.fixture
def log(database: str) -> str:
    """A saga log that intends what the test is about to do."""
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO baton.definition (name, version, content_hash, yaml, descriptor_set) VALUES"
            " ('order', 1, 'x', %s, '')",
            [DEFINITION],
        )
        connection.execute("INSERT INTO baton.epoch_history VALUES (0, 1, 'replica-1', 'vacant', clock_timestamp())")
        for saga_id, state, amount in ((DONE, "COMPLETED", "12.50"), (UNDONE, "COMPENSATED", "99.00")):
            connection.execute(
                "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input)"
                " VALUES (%s, 0, %s, '', 'order', 1, %s, jsonb_build_object('amount', %s::text))",
                [saga_id, f"request-{saga_id}", state, amount],
            )
        for saga_id, sequence, step, status in STEPS:
            connection.execute(
                "INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, epoch)"
                " VALUES (%s, %s, %s, 1, %s, 1, 1)",
                [saga_id, sequence, step, status],
            )
    return database


@pytest.fixture
async def shop(postgres: Postgres, log: str) -> AsyncIterator[str]:
    """A shop where one order went through and one was undone, its charge before it ever came."""
    dsn = postgres.create_database("audited_shop")
    async with (
        running(inventory.SERVICE, dsn) as stock,
        running(payment.SERVICE, dsn) as money,
        connected(stock.port) as inventory_client,
        connected(money.port) as payment_client,
    ):
        for saga_id in (DONE, UNDONE):
            await reserve(inventory_client, saga_id)
        charge = payment_pb2.ChargeRequest(order_id=DONE, customer_id="1", amount="12.50")
        assert_ok(await payment_client.call("shop.v1.PaymentService/Charge", charge, action(DONE, "charge")))
        refund = payment_pb2.RefundRequest(order_id=UNDONE)
        assert_ok(await payment_client.call("shop.v1.PaymentService/Refund", refund, compensation(UNDONE, "charge")))
        release = inventory_pb2.ReleaseRequest(order_id=UNDONE)
        method = "shop.v1.InventoryService/Release"
        assert_ok(await inventory_client.call(method, release, compensation(UNDONE, "reserve")))
    yield dsn
    postgres.drop_database("audited_shop")


async def reserve(client: Client, saga_id: str) -> None:
    lines = [inventory_pb2.Line(stock_code="41000", quantity=3)]
    request = inventory_pb2.ReserveRequest(order_id=saga_id, lines=lines)
    assert_ok(await client.call("shop.v1.InventoryService/Reserve", request, action(saga_id, "reserve")))


def assert_ok(reply: Reply) -> None:
    assert reply.code == 0, reply


ACKNOWLEDGED = [Acknowledgement(f"request-{saga_id}", saga_id) for saga_id in (DONE, UNDONE)]


async def test_what_really_happened_is_read_and_holds(log: str, shop: str) -> None:
    verdict = audit(log, shop, ACKNOWLEDGED)
    assert verdict.holds, verdict.lines()
    assert verdict.finding("I2").checked == "4 effects"
    assert verdict.finding("I3").checked == "1 tombstones, 1 compensations"
    assert verdict.finding("balances").checked == "997 pieces of 1 articles, money 12.50"


async def test_a_double_effect_and_stolen_stock_are_found(log: str, shop: str) -> None:
    with psycopg.connect(shop) as connection:
        connection.execute(
            "INSERT INTO payment.ledger (saga_id, step, kind, epoch, effect)"
            " SELECT saga_id, step, kind, epoch, effect FROM payment.ledger"
        )
        connection.execute("UPDATE inventory.stock SET available = available - 1")
    verdict = audit(log, shop, ACKNOWLEDGED)
    assert {finding.invariant for finding in verdict.findings if not finding.holds} == {"I1", "I2", "balances"}
    assert verdict.finding("I2").sagas == (DONE,)
    assert "article 41000" in verdict.finding("balances").offences[0].what
