"""Every service of the sample shop: its actions, their compensations, replays, refusals and totals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from google.protobuf.message import Message

from participants import inventory, orders, payment, shipping
from participants.call import CallIdentity
from participants.pb.shop.v1 import inventory_pb2, orders_pb2, payment_pb2, shipping_pb2
from tests.integration.shop import Reply, action, compensation, connected, running

INVENTORY = "shop.v1.InventoryService"
PAYMENT = "shop.v1.PaymentService"
ORDERS = "shop.v1.OrdersService"
SHIPPING = "shop.v1.ShippingService"

LINES = [inventory_pb2.Line(stock_code=code, quantity=n) for code, n in (("B", 2), ("A", 3), ("B", 1))]


class Shop:
    """All four participants, reached by method."""

    def __init__(self, clients: dict[str, Any], database: str) -> None:
        self._clients = clients
        self.database = database

    async def call(self, method: str, request: Message, call: CallIdentity | None = None) -> Reply:
        """Call twice under the same key, and see to it that both get the same."""
        client = self._clients[method.partition("/")[0]]
        first: Reply = await client.call(method, request, call)
        if call is not None:
            assert await client.call(method, request, call) == first
        return first

    async def totals(self, service: str, request: Message, kind: type[Message]) -> Any:
        reply = await self.call(f"{service}/GetTotals", request)
        assert reply.code == 0, reply
        return kind.FromString(reply.response)

    def ledger(self, schema: str) -> list[str]:
        """What took effect, in order."""
        with psycopg.connect(self.database) as connection:
            query = f"SELECT effect->>'effect' FROM {schema}.ledger ORDER BY id"
            return [row[0] for row in connection.execute(query.encode())]


@pytest.fixture(params=["unary", "exchange"])
async def shop(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as stack:
        clients = {}
        for name, module in ((INVENTORY, inventory), (PAYMENT, payment), (ORDERS, orders), (SHIPPING, shipping)):
            settings = {"initial_stock": 10, "charge_limit": Decimal(1000), "declined_customers": "poor, broke"}
            participant = await stack.enter_async_context(running(module.SERVICE, database, **settings))
            clients[name] = await stack.enter_async_context(connected(participant.port, request.param))
        yield Shop(clients, database)


async def stock(shop: Shop) -> tuple[int, int, int, int]:
    totals = await shop.totals(INVENTORY, inventory_pb2.InventoryTotalsRequest(), inventory_pb2.InventoryTotals)
    assert totals.initial - totals.reserved + totals.restocked == totals.available
    return totals.initial, totals.reserved, totals.restocked, totals.available


async def money(shop: Shop) -> tuple[str, str, str]:
    totals = await shop.totals(PAYMENT, payment_pb2.PaymentTotalsRequest(), payment_pb2.PaymentTotals)
    assert Decimal(totals.charged) - Decimal(totals.refunded) == Decimal(totals.balance)
    return totals.charged, totals.refunded, totals.balance


async def test_inventory_reserves_all_lines_and_releases_them(shop: Shop) -> None:
    request = inventory_pb2.ReserveRequest(order_id="o1", lines=LINES)
    reply = await shop.call(f"{INVENTORY}/Reserve", request, action("s1"))
    assert inventory_pb2.ReserveResponse.FromString(reply.response).quantity == 6
    assert await stock(shop) == (20, 6, 0, 14)
    again = await shop.call(f"{INVENTORY}/Reserve", request, action("s2"))
    assert again.name == "ALREADY_EXISTS"
    reply = await shop.call(f"{INVENTORY}/Release", inventory_pb2.ReleaseRequest(order_id="o1"), compensation("s1"))
    assert inventory_pb2.ReleaseResponse.FromString(reply.response).quantity == 6
    assert await stock(shop) == (20, 0, 0, 20)
    assert (await shop.call(f"{INVENTORY}/Reserve", request, action("s3"))).code == 0
    assert shop.ledger("inventory") == ["reserve", "release", "reserve"]


async def test_inventory_out_of_stock_names_what_is_short_and_takes_nothing(shop: Shop) -> None:
    lines = [inventory_pb2.Line(stock_code="A", quantity=1), inventory_pb2.Line(stock_code="B", quantity=11)]
    reply = await shop.call(
        f"{INVENTORY}/Reserve", inventory_pb2.ReserveRequest(order_id="o1", lines=lines), action("s1")
    )
    assert (reply.name, reply.message) == ("FAILED_PRECONDITION", "out of stock: B: wanted 11, available 10")
    assert await stock(shop) == (0, 0, 0, 0)
    await shop.call(f"{INVENTORY}/SetStock", inventory_pb2.SetStockRequest(stock_code="B", quantity=11))
    reply = await shop.call(
        f"{INVENTORY}/Reserve", inventory_pb2.ReserveRequest(order_id="o1", lines=lines), action("s2")
    )
    assert reply.code == 0
    assert await stock(shop) == (21, 12, 0, 9)
    reply = await shop.call(f"{INVENTORY}/GetStock", inventory_pb2.GetStockRequest(stock_code="B"))
    found = inventory_pb2.GetStockResponse.FromString(reply.response)
    assert (found.available, found.reserved) == (0, 11)


async def test_inventory_restocks_a_return_and_takes_it_back(shop: Shop) -> None:
    request = inventory_pb2.RestockRequest(return_id="C1", lines=LINES)
    assert (await shop.call(f"{INVENTORY}/Restock", request, action("s1"))).code == 0
    assert await stock(shop) == (20, 0, 6, 26)
    undo = inventory_pb2.UndoRestockRequest(return_id="C1")
    assert (await shop.call(f"{INVENTORY}/UndoRestock", undo, compensation("s1"))).code == 0
    assert await stock(shop) == (20, 0, 0, 20)


@pytest.mark.parametrize(
    ("lines", "field"),
    [([], "lines"), ([("A", 0)], "lines[0].quantity"), ([("A", 1), ("", 1)], "lines[1].stock_code")],
)
async def test_inventory_names_the_malformed_line(shop: Shop, lines: list[tuple[str, int]], field: str) -> None:
    request = inventory_pb2.ReserveRequest(
        order_id="o1", lines=[inventory_pb2.Line(stock_code=code, quantity=n) for code, n in lines]
    )
    reply = await shop.call(f"{INVENTORY}/Reserve", request, action("s1"))
    assert reply.name == "INVALID_ARGUMENT"
    assert reply.message.startswith(f"{field}: ")


async def test_payment_charges_exactly_and_refunds(shop: Shop) -> None:
    request = payment_pb2.ChargeRequest(order_id="o1", customer_id="c1", amount="0.10")
    assert (await shop.call(f"{PAYMENT}/Charge", request, action("s1"))).code == 0
    request = payment_pb2.ChargeRequest(order_id="o2", customer_id="c1", amount="0.205")
    assert (await shop.call(f"{PAYMENT}/Charge", request, action("s2"))).code == 0
    assert await money(shop) == ("0.305", "0.00", "0.305")
    reply = await shop.call(f"{PAYMENT}/Refund", payment_pb2.RefundRequest(order_id="o1"), compensation("s1"))
    assert payment_pb2.RefundResponse.FromString(reply.response).amount == "0.10"
    assert await money(shop) == ("0.305", "0.10", "0.205")
    reply = await shop.call(f"{PAYMENT}/GetBalance", payment_pb2.GetBalanceRequest(customer_id="c1"))
    assert payment_pb2.GetBalanceResponse.FromString(reply.response).balance == "0.205"


@pytest.mark.parametrize(
    ("order_id", "customer_id", "amount", "code", "words"),
    [
        ("o1", "broke", "1.00", "FAILED_PRECONDITION", "card declined: customer broke"),
        ("o1", "rich", "1000.01", "FAILED_PRECONDITION", "card declined: 1000.01 is over the limit of 1000.00"),
        ("fail-payment-7", "rich", "1.00", "FAILED_PRECONDITION", "card declined: order fail-payment-7"),
        ("o1", "rich", "1e3", "INVALID_ARGUMENT", "amount: '1e3'"),
        ("o1", "rich", "", "INVALID_ARGUMENT", "amount: ''"),
        ("o1", "rich", "-1", "INVALID_ARGUMENT", "amount: -1 is negative"),
        ("", "rich", "1", "INVALID_ARGUMENT", "order_id: is missing"),
    ],
)
async def test_payment_declines(
    shop: Shop, order_id: str, customer_id: str, amount: str, code: str, words: str
) -> None:
    request = payment_pb2.ChargeRequest(order_id=order_id, customer_id=customer_id, amount=amount)
    reply = await shop.call(f"{PAYMENT}/Charge", request, action("s1"))
    assert reply.name == code
    assert reply.message.startswith(words)
    assert await money(shop) == ("0.00", "0.00", "0.00")
    assert shop.ledger("payment") == []


async def test_a_card_can_be_declined_and_accepted_again(shop: Shop) -> None:
    await shop.call(
        f"{PAYMENT}/SetCard", payment_pb2.SetCardRequest(customer_id="c1", declined=True, reason="card stolen")
    )
    request = payment_pb2.ChargeRequest(order_id="o1", customer_id="c1", amount="1")
    assert (await shop.call(f"{PAYMENT}/Charge", request, action("s1"))).message == "card stolen: customer c1"
    await shop.call(f"{PAYMENT}/SetCard", payment_pb2.SetCardRequest(customer_id="c1", declined=False))
    assert (await shop.call(f"{PAYMENT}/Charge", request, action("s2"))).code == 0


async def test_payment_refunds_a_return_and_recharges(shop: Shop) -> None:
    request = payment_pb2.RefundRequest(order_id="C1", customer_id="c1", amount="5.50")
    assert (await shop.call(f"{PAYMENT}/Refund", request, action("s1"))).code == 0
    assert await money(shop) == ("0.00", "5.50", "-5.50")
    reply = await shop.call(f"{PAYMENT}/Recharge", payment_pb2.RechargeRequest(order_id="C1"), compensation("s1"))
    assert payment_pb2.RechargeResponse.FromString(reply.response).amount == "5.50"
    assert await money(shop) == ("0.00", "0.00", "0.00")
    unknown = await shop.call(f"{PAYMENT}/Refund", payment_pb2.RefundRequest(order_id="o9"), action("s2"))
    assert unknown.name == "NOT_FOUND"


async def test_orders_are_created_confirmed_and_undone(shop: Shop) -> None:
    create = orders_pb2.CreateRequest(order_id="o1", customer_id="c1", total="17.85")
    assert (await shop.call(f"{ORDERS}/Create", create, action("s1", "create"))).code == 0
    assert (await shop.call(f"{ORDERS}/Create", create, action("s2", "create"))).name == "ALREADY_EXISTS"
    confirm = orders_pb2.ConfirmRequest(order_id="o1")
    assert (await shop.call(f"{ORDERS}/Confirm", confirm, action("s1", "confirm"))).code == 0
    twice = await shop.call(f"{ORDERS}/Confirm", confirm, action("s2", "confirm"))
    assert (twice.name, twice.message) == ("FAILED_PRECONDITION", "order o1 is confirmed")
    unconfirm = orders_pb2.UnconfirmRequest(order_id="o1")
    assert (await shop.call(f"{ORDERS}/Unconfirm", unconfirm, compensation("s1", "confirm"))).code == 0
    cancel = orders_pb2.CancelOrderRequest(order_id="o1")
    assert (await shop.call(f"{ORDERS}/CancelOrder", cancel, compensation("s1", "create"))).code == 0
    found = orders_pb2.GetOrderResponse.FromString(
        (await shop.call(f"{ORDERS}/GetOrder", orders_pb2.GetOrderRequest(order_id="o1"))).response
    )
    assert (found.total, found.state) == ("17.85", orders_pb2.ORDER_STATE_CANCELLED)
    assert shop.ledger("orders") == ["create", "confirm", "unconfirm", "cancel"]
    totals = await shop.totals(ORDERS, orders_pb2.OrdersTotalsRequest(), orders_pb2.OrdersTotals)
    assert (totals.created, totals.confirmed, totals.cancelled) == (0, 0, 1)


@pytest.mark.parametrize(("order_id", "total"), [("fail-database", "1.00"), ("fail-database-2", "1.00"), ("o", "-1")])
async def test_orders_fail_in_the_database_itself(shop: Shop, order_id: str, total: str) -> None:
    create = orders_pb2.CreateRequest(order_id=order_id, total=total)
    reply = await shop.call(f"{ORDERS}/Create", create, action("s1"))
    assert reply.name == "FAILED_PRECONDITION"
    assert "database error: new row" in reply.message
    assert shop.ledger("orders") == []


async def test_an_unknown_order_cannot_be_confirmed(shop: Shop) -> None:
    reply = await shop.call(f"{ORDERS}/Confirm", orders_pb2.ConfirmRequest(order_id="o9"), action("s1"))
    assert (reply.name, reply.message) == ("NOT_FOUND", "order o9 is not known")


async def test_shipping_ships_once_and_calls_back(shop: Shop) -> None:
    ship = shipping_pb2.ShipRequest(order_id="o1", destination="France")
    reply = await shop.call(f"{SHIPPING}/Ship", ship, action("s1"))
    number = shipping_pb2.ShipResponse.FromString(reply.response).tracking_number
    assert (await shop.call(f"{SHIPPING}/Ship", ship, action("s2"))).name == "ALREADY_EXISTS"
    cancel = shipping_pb2.CancelShipmentRequest(order_id="o1")
    reply = await shop.call(f"{SHIPPING}/CancelShipment", cancel, compensation("s1"))
    assert shipping_pb2.CancelShipmentResponse.FromString(reply.response).tracking_number == number
    totals = await shop.totals(SHIPPING, shipping_pb2.ShippingTotalsRequest(), shipping_pb2.ShippingTotals)
    assert (totals.shipped, totals.cancelled) == (0, 1)
    found = shipping_pb2.GetShipmentResponse.FromString(
        (await shop.call(f"{SHIPPING}/GetShipment", shipping_pb2.GetShipmentRequest(order_id="o1"))).response
    )
    assert found.cancelled


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (f"{INVENTORY}/Reserve", inventory_pb2.ReserveRequest(order_id="fail-inventory", lines=LINES)),
        (f"{INVENTORY}/Restock", inventory_pb2.RestockRequest(return_id="fail-inventory-1", lines=LINES)),
        (f"{PAYMENT}/Refund", payment_pb2.RefundRequest(order_id="fail-payment", amount="1")),
        (f"{ORDERS}/Create", orders_pb2.CreateRequest(order_id="fail-order", total="1")),
        (f"{ORDERS}/Confirm", orders_pb2.ConfirmRequest(order_id="fail-confirm")),
        (f"{SHIPPING}/Ship", shipping_pb2.ShipRequest(order_id="fail-shipping-3")),
        (f"{SHIPPING}/Ship", shipping_pb2.ShipRequest(order_id="o1", destination="Unspecified")),
    ],
)
async def test_orders_that_are_meant_to_fail_are_refused(shop: Shop, method: str, request_: Message) -> None:
    assert (await shop.call(method, request_, action("s1"))).name == "FAILED_PRECONDITION"


@pytest.mark.parametrize(
    ("act", "status", "request_", "question"),
    [
        (
            f"{PAYMENT}/Charge",
            f"{PAYMENT}/GetCharge",
            payment_pb2.ChargeRequest(order_id="o1", amount="5.00"),
            payment_pb2.GetChargeRequest(order_id="o1"),
        ),
        (
            f"{INVENTORY}/Reserve",
            f"{INVENTORY}/GetReservation",
            inventory_pb2.ReserveRequest(order_id="o1", lines=LINES),
            inventory_pb2.GetReservationRequest(order_id="o1"),
        ),
    ],
)
async def test_a_status_method_answers_the_step_by_its_key_and_people_by_the_order(
    shop: Shop, act: str, status: str, request_: Message, question: Message
) -> None:
    never = await shop.call(status, question, action("never"))
    assert (never.name, never.message.partition(":")[0]) == ("NOT_FOUND", "NOT_DONE")
    assert (await shop.call(act, request_, action("never"))).message.startswith("TOMBSTONE")
    assert (await shop.call(status, question)).name == "NOT_FOUND"
    done = await shop.call(act, request_, action("s1"))
    assert done.code == 0
    assert await shop.call(status, question, action("s1")) == done
    assert await shop.call(status, question) == done
    # A step of another saga did nothing, whatever the order has.
    refused = await shop.call(act, request_, action("s2"))
    assert refused.name == "ALREADY_EXISTS"
    unknown = await shop.call(status, question, action("s2"))
    assert unknown.name == "NOT_FOUND"
    assert refused.message in unknown.message


async def test_after_a_question_only_a_later_attempt_may_act(shop: Shop) -> None:
    charge = payment_pb2.ChargeRequest(order_id="asked", amount="5.00")
    poor = payment_pb2.ChargeRequest(order_id="fail-payment-asked", amount="5.00")
    question = payment_pb2.GetChargeRequest(order_id="asked")
    for request, heard in ((charge, "OK"), (poor, "FAILED_PRECONDITION")):
        saga = f"asked-{heard}"
        assert (await shop.call(f"{PAYMENT}/GetCharge", question, action(saga, attempt=2))).name == "NOT_FOUND"
        assert (await shop.call(f"{PAYMENT}/GetCharge", question, action(saga, attempt=4))).name == "NOT_FOUND"
        for late in (1, 3, 4):
            answer = await shop.call(f"{PAYMENT}/Charge", request, action(saga, attempt=late))
            assert answer.message.startswith("TOMBSTONE"), late
        first = await shop.call(f"{PAYMENT}/Charge", request, action(saga, attempt=5))
        assert (first.name, "TOMBSTONE" in first.message) == (heard, False)
        # It has the key now: whatever else comes gets its answer.
        for other in (1, 6):
            assert await shop.call(f"{PAYMENT}/Charge", request, action(saga, attempt=other)) == first


async def test_a_compensation_after_a_question_keeps_every_attempt_out(shop: Shop) -> None:
    question = payment_pb2.GetChargeRequest(order_id="over")
    assert (await shop.call(f"{PAYMENT}/GetCharge", question, action("over", attempt=2))).name == "NOT_FOUND"
    refund = payment_pb2.RefundRequest(order_id="over")
    assert (await shop.call(f"{PAYMENT}/Refund", refund, compensation("over"))).code == 0
    charge = payment_pb2.ChargeRequest(order_id="over", amount="5.00")
    late = await shop.call(f"{PAYMENT}/Charge", charge, action("over", attempt=3))
    assert late.message.startswith("TOMBSTONE")
    # Asked once more, it stays so.
    assert (await shop.call(f"{PAYMENT}/GetCharge", question, action("over", attempt=4))).name == "NOT_FOUND"
    assert (await shop.call(f"{PAYMENT}/Charge", charge, action("over", attempt=5))).message.startswith("TOMBSTONE")
