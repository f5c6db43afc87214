"""The payments of the sample shop: charges for orders, refunds for returns, in exact decimals."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import grpc
import grpc.aio

from participants.barrier import Transaction, transaction
from participants.call import Kind
from participants.database import Database
from participants.dispatch import plain, status
from participants.fields import money_not_negative, optional_id, refuse_marked, required_id, spelled
from participants.pb.shop.v1 import payment_pb2 as pb
from participants.pb.shop.v1 import payment_pb2_grpc
from participants.server import MIGRATIONS, Service
from participants.settings import ParticipantSettings
from participants.sql import load_queries
from participants.status import Refusal

Context = grpc.aio.ServicerContext[Any, Any]

_QUERIES = load_queries("payment")
_DECLINED = "card declined"


class PaymentServicer(payment_pb2_grpc.PaymentServiceServicer):
    """Effects run in the barrier's transaction; the plain calls use connections of their own."""

    def __init__(self, database: Database, settings: ParticipantSettings) -> None:
        self._database = database
        self._limit = settings.charge_limit

    async def Charge(self, request: pb.ChargeRequest, context: Context) -> pb.ChargeResponse:
        """Charge the customer's card."""
        order_id = required_id(request.order_id, "order_id")
        customer_id = optional_id(request.customer_id, "customer_id")
        amount = money_not_negative(request.amount, "amount")
        refuse_marked(order_id, "fail-payment", f"{_DECLINED}: order {order_id}")
        refuse_over_limit(amount, self._limit)
        tx = transaction()
        cursor = await tx.execute(_QUERIES["declined"], {"customer_id": customer_id})
        if (row := await cursor.fetchone()) is not None:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, f"{row[0]}: customer {customer_id}")
        payment_id = await _pay(tx, "charge", order_id, customer_id, amount)
        await _book(tx, customer_id, amount)
        tx.record_effect(effect="charge", order_id=order_id, payment_id=payment_id, amount=spelled(amount))
        return pb.ChargeResponse(payment_id=payment_id, amount=spelled(amount))

    async def Refund(self, request: pb.RefundRequest, context: Context) -> pb.RefundResponse:
        """Pay back what the order was charged, or the amount of a return."""
        order_id = required_id(request.order_id, "order_id")
        tx = transaction()
        if not request.amount:
            payment_id, amount = await _undo(tx, "charge", order_id)
        else:
            amount = money_not_negative(request.amount, "amount")
            customer_id = optional_id(request.customer_id, "customer_id")
            refuse_marked(order_id, "fail-payment", f"refund declined: return {order_id}")
            payment_id = await _pay(tx, "refund", order_id, customer_id, amount)
            await _book(tx, customer_id, -amount)
        tx.record_effect(effect="refund", order_id=order_id, payment_id=payment_id, amount=spelled(amount))
        return pb.RefundResponse(refund_id=payment_id, amount=spelled(amount))

    async def Recharge(self, request: pb.RechargeRequest, context: Context) -> pb.RechargeResponse:
        """Take back what a return was refunded."""
        order_id = required_id(request.order_id, "order_id")
        tx = transaction()
        payment_id, amount = await _undo(tx, "refund", order_id)
        tx.record_effect(effect="recharge", order_id=order_id, payment_id=payment_id, amount=spelled(amount))
        return pb.RechargeResponse(amount=spelled(amount))

    @plain
    @status
    async def GetCharge(self, request: pb.GetChargeRequest, context: Context) -> pb.ChargeResponse:
        """The charge of an order, for whoever asks outside of a saga; within one, the barrier answers."""
        order_id = required_id(request.order_id, "order_id")
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["charge"], {"order_id": order_id})
            row = cast(tuple[int, Decimal] | None, await cursor.fetchone())
        if row is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"order {order_id} has no charge")
        return pb.ChargeResponse(payment_id=row[0], amount=spelled(row[1]))

    @plain
    async def SetCard(self, request: pb.SetCardRequest, context: Context) -> pb.SetCardResponse:
        """Decline a customer's card from now on, or accept it again."""
        customer_id = required_id(request.customer_id, "customer_id")
        parameters = {"customer_id": customer_id, "reason": optional_id(request.reason, "reason") or _DECLINED}
        async with self._database.connection() as connection:
            await connection.execute(_QUERIES["decline_card" if request.declined else "accept_card"], parameters)
        return pb.SetCardResponse()

    @plain
    async def GetBalance(self, request: pb.GetBalanceRequest, context: Context) -> pb.GetBalanceResponse:
        """Charged less refunded, for one customer."""
        customer_id = optional_id(request.customer_id, "customer_id")
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["balance"], {"customer_id": customer_id})
            row = await cursor.fetchone()
        return pb.GetBalanceResponse(balance=spelled(cast(Decimal, row[0]) if row else Decimal(0)))

    @plain
    async def GetTotals(self, request: pb.PaymentTotalsRequest, context: Context) -> pb.PaymentTotals:
        """Sums over all customers, in one snapshot."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["totals"])
            charged, refunded, balance = cast(tuple[Decimal, Decimal, Decimal], await cursor.fetchone())
        return pb.PaymentTotals(charged=spelled(charged), refunded=spelled(refunded), balance=spelled(balance))


def refuse_over_limit(amount: Decimal, limit: Decimal) -> None:
    """Decline what is more than `limit`. Raises Refusal."""
    if amount > limit:
        raise Refusal(
            grpc.StatusCode.FAILED_PRECONDITION, f"{_DECLINED}: {spelled(amount)} is over the limit of {spelled(limit)}"
        )


async def _pay(tx: Transaction, kind: str, order_id: str, customer_id: str, amount: Decimal) -> int:
    parameters = {"kind": kind, "order_id": order_id, "customer_id": customer_id, "amount": amount}
    cursor = await tx.execute(_QUERIES["pay"], parameters)
    row = await cursor.fetchone()
    if row is None:
        raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"order {order_id} has a {kind} already")
    return cast(int, row[0])


async def _undo(tx: Transaction, kind: str, order_id: str) -> tuple[int, Decimal]:
    """The id and amount of the payment that is undone now; zeros for a compensation that finds none."""
    cursor = await tx.execute(_QUERIES["undo"], {"kind": kind, "order_id": order_id})
    row = await cursor.fetchone()
    if row is None:
        if tx.call.kind is Kind.ACTION:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"order {order_id} has no {kind}")
        return 0, Decimal(0)
    payment_id, customer_id, amount = cast(tuple[int, str, Decimal], row)
    await _book(tx, customer_id, -amount if kind == "charge" else amount)
    return payment_id, amount


async def _book(tx: Transaction, customer_id: str, amount: Decimal) -> None:
    await tx.execute(_QUERIES["book"], {"customer_id": customer_id, "amount": amount})


async def decline_listed(database: Database, settings: ParticipantSettings) -> None:
    """Put the customers of the settings on the list of declined cards."""
    async with database.connection() as connection:
        for customer_id in filter(None, (name.strip() for name in settings.declined_customers.split(","))):
            parameters = {"customer_id": customer_id, "reason": _DECLINED}
            await connection.execute(_QUERIES["decline_card"], parameters)


SERVICE = Service(
    name="payment",
    register=payment_pb2_grpc.add_PaymentServiceServicer_to_server,
    servicer=PaymentServicer,
    listen="127.0.0.1:7502",
    migrations=MIGRATIONS / "payment",
    prepare=decline_listed,
)
