"""The stock of the sample shop: reservations for orders, restocking of returned goods."""

from __future__ import annotations

from typing import Any, cast

import grpc
import grpc.aio

from participants.barrier import Transaction, transaction
from participants.database import Database
from participants.dispatch import plain, status
from participants.fields import quantities, refuse_marked, required_id
from participants.pb.shop.v1 import inventory_pb2 as pb
from participants.pb.shop.v1 import inventory_pb2_grpc
from participants.server import MIGRATIONS, Service
from participants.settings import ParticipantSettings
from participants.sql import load_queries
from participants.status import Refusal

Context = grpc.aio.ServicerContext[Any, Any]

_QUERIES = load_queries("inventory")

# What a movement does to the stock.
_SIGN = {"reservation": -1, "restock": 1}


class InventoryServicer(inventory_pb2_grpc.InventoryServiceServicer):
    """Effects run in the barrier's transaction; the plain calls use connections of their own."""

    def __init__(self, database: Database, settings: ParticipantSettings) -> None:
        self._database = database
        self._initial = settings.initial_stock

    async def Reserve(self, request: pb.ReserveRequest, context: Context) -> pb.ReserveResponse:
        """Take every line out of stock, or none."""
        order_id = required_id(request.order_id, "order_id")
        wanted = quantities(request.lines)
        refuse_marked(order_id, "fail-inventory", f"order {order_id} cannot be reserved")
        tx = transaction()
        movement_id = await _open(tx, "reservation", order_id)
        available = await self._lock(tx, wanted)
        for code, quantity in wanted.items():
            if available[code] < quantity:
                raise Refusal(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"out of stock: {code}: wanted {quantity}, available {max(available[code], 0)}",
                )
        await _move(tx, "reservation", movement_id, wanted)
        pieces = sum(wanted.values())
        tx.record_effect(effect="reserve", order_id=order_id, reservation_id=movement_id, quantity=pieces)
        return pb.ReserveResponse(reservation_id=movement_id, quantity=pieces)

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        """Put back what the order holds."""
        return pb.ReleaseResponse(quantity=await _undo("reservation", request.order_id, "order_id", "release"))

    async def Restock(self, request: pb.RestockRequest, context: Context) -> pb.RestockResponse:
        """Put returned goods back into stock."""
        return_id = required_id(request.return_id, "return_id")
        returned = quantities(request.lines)
        refuse_marked(return_id, "fail-inventory", f"return {return_id} cannot be restocked")
        tx = transaction()
        movement_id = await _open(tx, "restock", return_id)
        await self._lock(tx, returned)
        await _move(tx, "restock", movement_id, returned)
        pieces = sum(returned.values())
        tx.record_effect(effect="restock", order_id=return_id, restock_id=movement_id, quantity=pieces)
        return pb.RestockResponse(restock_id=movement_id, quantity=pieces)

    async def UndoRestock(self, request: pb.UndoRestockRequest, context: Context) -> pb.UndoRestockResponse:
        """Take the returned goods out of stock again."""
        return pb.UndoRestockResponse(quantity=await _undo("restock", request.return_id, "return_id", "undo_restock"))

    @plain
    @status
    async def GetReservation(self, request: pb.GetReservationRequest, context: Context) -> pb.ReserveResponse:
        """The reservation of an order, for whoever asks outside of a saga; within one, the barrier answers."""
        order_id = required_id(request.order_id, "order_id")
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["reservation"], {"order_id": order_id})
            row = cast(tuple[int, int] | None, await cursor.fetchone())
        if row is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"order {order_id} has no reservation")
        return pb.ReserveResponse(reservation_id=row[0], quantity=row[1])

    @plain
    async def SetStock(self, request: pb.SetStockRequest, context: Context) -> pb.SetStockResponse:
        """What is in stock from now on, as counted by a person."""
        code = required_id(request.stock_code, "stock_code")
        if request.quantity < 0:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"quantity: {request.quantity} is negative")
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_QUERIES["add_unknown"], {"codes": [code], "initial": self._initial})
            cursor = await connection.execute(_QUERIES["lock"], {"codes": [code]})
            before = cast(tuple[str, int], await cursor.fetchone())[1]
            await connection.execute(_QUERIES["set_stock"], {"code": code, "quantity": request.quantity})
        return pb.SetStockResponse(quantity_before=before)

    @plain
    async def GetStock(self, request: pb.GetStockRequest, context: Context) -> pb.GetStockResponse:
        """What is available; a stock code that was never seen has the initial stock."""
        code = required_id(request.stock_code, "stock_code")
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["get_stock"], {"code": code})
            row = await cursor.fetchone()
        available, reserved = cast(tuple[int, int], row or (self._initial, 0))
        return pb.GetStockResponse(stock_code=code, available=available, reserved=reserved)

    @plain
    async def GetTotals(self, request: pb.InventoryTotalsRequest, context: Context) -> pb.InventoryTotals:
        """Sums over all stock codes, in one snapshot."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["totals"])
            initial, available, reserved, restocked = cast(tuple[int, int, int, int], await cursor.fetchone())
        return pb.InventoryTotals(initial=initial, reserved=reserved, restocked=restocked, available=available)

    async def _lock(self, tx: Transaction, wanted: dict[str, int]) -> dict[str, int]:
        codes = list(wanted)
        await tx.execute(_QUERIES["add_unknown"], {"codes": codes, "initial": self._initial})
        cursor = await tx.execute(_QUERIES["lock"], {"codes": codes})
        return dict(await cursor.fetchall())


async def _open(tx: Transaction, kind: str, order_id: str) -> int:
    cursor = await tx.execute(_QUERIES["open_movement"], {"kind": kind, "order_id": order_id})
    row = await cursor.fetchone()
    if row is None:
        raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"order {order_id} has a {kind} already")
    return cast(int, row[0])


async def _move(tx: Transaction, kind: str, movement_id: int, lines: dict[str, int]) -> None:
    parameters = {
        "id": movement_id,
        "codes": list(lines),
        "quantities": list(lines.values()),
        "sign": _SIGN[kind],
    }
    await tx.execute(_QUERIES["move"], parameters)


async def _undo(kind: str, order_id: str, field: str, effect: str) -> int:
    required_id(order_id, field)
    tx = transaction()
    cursor = await tx.execute(_QUERIES["close_movement"], {"kind": kind, "order_id": order_id})
    row = await cursor.fetchone()
    pieces = 0
    if row is not None:
        await tx.execute(_QUERIES["lock_lines"], {"id": row[0]})
        cursor = await tx.execute(_QUERIES["move_back"], {"id": row[0], "sign": -_SIGN[kind]})
        pieces = cast(tuple[int], await cursor.fetchone())[0]
    tx.record_effect(effect=effect, order_id=order_id, quantity=pieces)
    return pieces


SERVICE = Service(
    name="inventory",
    register=inventory_pb2_grpc.add_InventoryServiceServicer_to_server,
    servicer=InventoryServicer,
    listen="127.0.0.1:7501",
    migrations=MIGRATIONS / "inventory",
)
