"""The order flow without an orchestrator: each service listens to what has happened, does its part, and says so.

    order.placed    -> orders: create     -> order.created  or order.rejected, an end
    order.created   -> payment: charge    -> payment.charged  or payment.refused
    payment.charged -> inventory: reserve -> stock.reserved  or stock.refused
    stock.reserved  -> orders: confirm    -> order.confirmed, an end

    payment.refused  -> orders: cancel    -> order.cancelled, an end
    stock.refused    -> payment: refund   -> payment.refunded
    payment.refunded -> orders: cancel    -> order.cancelled, an end

The effects are those of the orchestrated services, on the same tables. Nobody knows the flow as a whole: it is what the
tables of reactions below add up to. docs/choreography.md compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import grpc.aio

from participants import inventory, orders, payment
from participants.database import Database
from participants.happening import Happening
from participants.pb.shop.v1 import inventory_pb2, orders_pb2, payment_pb2
from participants.server import MIGRATIONS, Service
from participants.settings import ParticipantSettings

if TYPE_CHECKING:
    # Without a broker the shop needs no client of one.
    from participants.reactor import Reaction

PLACED = "order.placed"
ENDS = ("order.rejected", "order.confirmed", "order.cancelled")

# The servicers' effects ask their context for nothing.
_NO_CONTEXT = cast(grpc.aio.ServicerContext[Any, Any], None)

_React = Callable[[Database, ParticipantSettings], Sequence["Reaction"]]


def placed(order_id: str, customer_id: str, amount: str, lines: Sequence[tuple[str, int]]) -> Happening:
    """What the shop's front says when somebody orders."""
    wanted = [{"stock_code": code, "quantity": quantity} for code, quantity in lines]
    return Happening(PLACED, order_id, {"customer_id": customer_id, "amount": amount, "lines": wanted})


def _orders(database: Database, settings: ParticipantSettings) -> Sequence[Reaction]:
    from participants.reactor import Reaction

    servicer = orders.OrdersServicer(database, settings)

    async def create(event: Happening) -> None:
        order = event.order
        request = orders_pb2.CreateRequest(
            order_id=event.order_id, customer_id=order["customer_id"], total=order["amount"]
        )
        await servicer.Create(request, _NO_CONTEXT)

    async def confirm(event: Happening) -> None:
        await servicer.Confirm(orders_pb2.ConfirmRequest(order_id=event.order_id), _NO_CONTEXT)

    async def cancel(event: Happening) -> None:
        await servicer.CancelOrder(orders_pb2.CancelOrderRequest(order_id=event.order_id), _NO_CONTEXT)

    return (
        Reaction(PLACED, create, "order.created", refused="order.rejected"),
        Reaction("stock.reserved", confirm, "order.confirmed"),
        Reaction("payment.refused", cancel, "order.cancelled"),
        Reaction("payment.refunded", cancel, "order.cancelled"),
    )


def _payment(database: Database, settings: ParticipantSettings) -> Sequence[Reaction]:
    from participants.reactor import Reaction

    servicer = payment.PaymentServicer(database, settings)

    async def charge(event: Happening) -> None:
        order = event.order
        request = payment_pb2.ChargeRequest(
            order_id=event.order_id, customer_id=order["customer_id"], amount=order["amount"]
        )
        await servicer.Charge(request, _NO_CONTEXT)

    async def refund(event: Happening) -> None:
        await servicer.Refund(payment_pb2.RefundRequest(order_id=event.order_id), _NO_CONTEXT)

    return (
        Reaction("order.created", charge, "payment.charged", refused="payment.refused"),
        Reaction("stock.refused", refund, "payment.refunded"),
    )


def _inventory(database: Database, settings: ParticipantSettings) -> Sequence[Reaction]:
    from participants.reactor import Reaction

    servicer = inventory.InventoryServicer(database, settings)

    async def reserve(event: Happening) -> None:
        lines = [inventory_pb2.Line(**line) for line in event.order["lines"]]
        await servicer.Reserve(inventory_pb2.ReserveRequest(order_id=event.order_id, lines=lines), _NO_CONTEXT)

    return (Reaction("payment.charged", reserve, "stock.reserved", refused="stock.refused"),)


def _by_events(service: Service, react: _React, listen: str) -> Service:
    """The service, which also reacts to what happens."""

    async def background(database: Database, settings: ParticipantSettings) -> None:
        from participants.bus import Bus
        from participants.reactor import Reactor

        bus = Bus(settings.broker, service.name)
        await Reactor(service.name, database, bus, settings.processed_keep_s, react(database, settings)).run()

    shared = (MIGRATIONS / "inbox", MIGRATIONS / "outbox")
    return replace(service, listen=listen, shared_migrations=shared, background=background)


# By the names of their commands.
SERVICES = {
    "orders-by-events": _by_events(orders.SERVICE, _orders, "127.0.0.1:7513"),
    "payment-by-events": _by_events(payment.SERVICE, _payment, "127.0.0.1:7512"),
    "inventory-by-events": _by_events(inventory.SERVICE, _inventory, "127.0.0.1:7511"),
}
