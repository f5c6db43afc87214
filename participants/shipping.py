"""The dispatch of the sample shop's parcels."""

from __future__ import annotations

from typing import Any, cast

import grpc
import grpc.aio

from participants.barrier import transaction
from participants.database import Database
from participants.dispatch import plain
from participants.fields import optional_id, refuse_marked, required_id
from participants.pb.shop.v1 import shipping_pb2 as pb
from participants.pb.shop.v1 import shipping_pb2_grpc
from participants.server import MIGRATIONS, Service
from participants.settings import ParticipantSettings
from participants.sql import load_queries
from participants.status import Refusal

Context = grpc.aio.ServicerContext[Any, Any]

_QUERIES = load_queries("shipping")

# What an address book says when nobody filled the country in.
_NOWHERE = frozenset({"unspecified", "unknown"})


class ShippingServicer(shipping_pb2_grpc.ShippingServiceServicer):
    """Effects run in the barrier's transaction; the plain calls use connections of their own."""

    def __init__(self, database: Database, settings: ParticipantSettings) -> None:
        self._database = database

    async def Ship(self, request: pb.ShipRequest, context: Context) -> pb.ShipResponse:
        """Hand the order to the carrier."""
        order_id = required_id(request.order_id, "order_id")
        destination = optional_id(request.destination, "destination")
        refuse_marked(order_id, "fail-shipping", f"order {order_id} cannot be shipped")
        if destination.lower() in _NOWHERE:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, f"the carrier does not go to {destination!r}")
        tx = transaction()
        cursor = await tx.execute(_QUERIES["ship"], {"order_id": order_id, "destination": destination})
        row = await cursor.fetchone()
        if row is None:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"order {order_id} is on its way already")
        number = _tracking_number(cast(int, row[0]))
        tx.record_effect(effect="ship", order_id=order_id, tracking_number=number)
        return pb.ShipResponse(tracking_number=number)

    async def CancelShipment(self, request: pb.CancelShipmentRequest, context: Context) -> pb.CancelShipmentResponse:
        """Call the parcel back."""
        order_id = required_id(request.order_id, "order_id")
        tx = transaction()
        cursor = await tx.execute(_QUERIES["cancel"], {"order_id": order_id})
        row = await cursor.fetchone()
        number = _tracking_number(cast(int, row[0])) if row is not None else ""
        tx.record_effect(effect="cancel_shipment", order_id=order_id, tracking_number=number)
        return pb.CancelShipmentResponse(tracking_number=number)

    @plain
    async def GetShipment(self, request: pb.GetShipmentRequest, context: Context) -> pb.GetShipmentResponse:
        """The latest shipment of the order."""
        order_id = required_id(request.order_id, "order_id")
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["latest"], {"order_id": order_id})
            row = await cursor.fetchone()
        if row is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"order {order_id} has no shipment")
        shipment_id, destination, cancelled = cast(tuple[int, str, bool], row)
        return pb.GetShipmentResponse(
            tracking_number=_tracking_number(shipment_id), destination=destination, cancelled=cancelled
        )

    @plain
    async def GetTotals(self, request: pb.ShippingTotalsRequest, context: Context) -> pb.ShippingTotals:
        """How many parcels are on their way or there, and how many were called back."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["totals"])
            shipped, cancelled = cast(tuple[int, int], await cursor.fetchone())
        return pb.ShippingTotals(shipped=shipped, cancelled=cancelled)


def _tracking_number(shipment_id: int) -> str:
    return f"BT{shipment_id:010d}"


SERVICE = Service(
    name="shipping",
    register=shipping_pb2_grpc.add_ShippingServiceServicer_to_server,
    servicer=ShippingServicer,
    listen="127.0.0.1:7504",
    migrations=MIGRATIONS / "shipping",
)
