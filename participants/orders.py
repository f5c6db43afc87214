"""The order book of the sample shop."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import grpc
import grpc.aio

from participants.barrier import transaction
from participants.database import Database
from participants.dispatch import plain
from participants.fields import money, optional_id, refuse_marked, required_id, spelled
from participants.pb.shop.v1 import orders_pb2 as pb
from participants.pb.shop.v1 import orders_pb2_grpc
from participants.server import MIGRATIONS, Service
from participants.settings import ParticipantSettings
from participants.sql import load_queries
from participants.status import Refusal

Context = grpc.aio.ServicerContext[Any, Any]

_QUERIES = load_queries("orders")

_STATES = {
    "created": pb.ORDER_STATE_CREATED,
    "confirmed": pb.ORDER_STATE_CONFIRMED,
    "cancelled": pb.ORDER_STATE_CANCELLED,
}


class OrdersServicer(orders_pb2_grpc.OrdersServiceServicer):
    """Effects run in the barrier's transaction; the plain calls use connections of their own."""

    def __init__(self, database: Database, settings: ParticipantSettings) -> None:
        self._database = database

    async def Create(self, request: pb.CreateRequest, context: Context) -> pb.CreateResponse:
        """Write the order down. What the table's constraints refuse is a database error of this step."""
        order_id = required_id(request.order_id, "order_id")
        customer_id = optional_id(request.customer_id, "customer_id")
        total = money(request.total, "total")
        refuse_marked(order_id, "fail-order", f"order {order_id} is not accepted")
        tx = transaction()
        parameters = {"order_id": order_id, "customer_id": customer_id, "total": total}
        cursor = await tx.execute(_QUERIES["create"], parameters)
        if await cursor.fetchone() is None:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"order {order_id} exists already")
        tx.record_effect(effect="create", order_id=order_id, total=spelled(total))
        return pb.CreateResponse(order_id=order_id, state=pb.ORDER_STATE_CREATED)

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Context) -> pb.CancelOrderResponse:
        """Cancel the order."""
        await _change(request.order_id, ["created", "confirmed"], "cancelled", "cancel")
        return pb.CancelOrderResponse(state=pb.ORDER_STATE_CANCELLED)

    async def Confirm(self, request: pb.ConfirmRequest, context: Context) -> pb.ConfirmResponse:
        """Confirm an order that was created."""
        order_id = required_id(request.order_id, "order_id")
        refuse_marked(order_id, "fail-confirm", f"order {order_id} is not confirmed")
        if not await _change(order_id, ["created"], "confirmed", "confirm"):
            cursor = await transaction().execute(_QUERIES["latest"], {"order_id": order_id})
            if (row := await cursor.fetchone()) is None:
                raise Refusal(grpc.StatusCode.NOT_FOUND, f"order {order_id} is not known")
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, f"order {order_id} is {row[2]}")
        return pb.ConfirmResponse(state=pb.ORDER_STATE_CONFIRMED)

    async def Unconfirm(self, request: pb.UnconfirmRequest, context: Context) -> pb.UnconfirmResponse:
        """Take the confirmation back."""
        await _change(request.order_id, ["confirmed"], "created", "unconfirm")
        return pb.UnconfirmResponse(state=pb.ORDER_STATE_CREATED)

    @plain
    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.GetOrderResponse:
        """The latest order of this id."""
        order_id = required_id(request.order_id, "order_id")
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["latest"], {"order_id": order_id})
            row = await cursor.fetchone()
        if row is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"order {order_id} is not known")
        customer_id, total, state = cast(tuple[str, Decimal, str], row)
        return pb.GetOrderResponse(
            order_id=order_id, customer_id=customer_id, total=spelled(total), state=_STATES[state]
        )

    @plain
    async def GetTotals(self, request: pb.OrdersTotalsRequest, context: Context) -> pb.OrdersTotals:
        """How many orders are in each state."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["totals"])
            created, confirmed, cancelled = cast(tuple[int, int, int], await cursor.fetchone())
        return pb.OrdersTotals(created=created, confirmed=confirmed, cancelled=cancelled)


async def _change(order_id: str, sources: list[str], target: str, effect: str) -> bool:
    """Move the order to `target` and record it; whether there was one to move."""
    required_id(order_id, "order_id")
    tx = transaction()
    parameters = {"order_id": order_id, "sources": sources, "target": target}
    cursor = await tx.execute(_QUERIES["change"], parameters)
    changed = await cursor.fetchone() is not None
    tx.record_effect(effect=effect, order_id=order_id, changed=changed)
    return changed


SERVICE = Service(
    name="orders",
    register=orders_pb2_grpc.add_OrdersServiceServicer_to_server,
    servicer=OrdersServicer,
    listen="127.0.0.1:7503",
    migrations=MIGRATIONS / "orders",
)
