"""Checks of what a request carries: ids, amounts of money, lines. Pure; each refusal names the field."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

import grpc

from participants.pb.shop.v1 import inventory_pb2
from participants.status import Refusal

_ID_LENGTH_MAX = 100
_LINES_MAX = 10_000
_QUANTITY_MAX = 1_000_000_000
_MONEY = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,4})?", re.ASCII)
_CENT = Decimal("0.01")


def required_id(value: str, field: str) -> str:
    """`value`, when it is an id. Raises Refusal."""
    if not value:
        raise _invalid(field, "is missing")
    return optional_id(value, field)


def optional_id(value: str, field: str) -> str:
    """`value`, when it is an id or empty. Raises Refusal."""
    if len(value) > _ID_LENGTH_MAX or not value.isprintable():
        raise _invalid(field, f"must be at most {_ID_LENGTH_MAX} printable characters")
    return value


def money(text: str, field: str) -> Decimal:
    """The exact amount that a decimal string spells. Raises Refusal."""
    if not _MONEY.fullmatch(text):
        raise _invalid(field, f"{text!r} is not a decimal string with at most four places, such as '17.85'")
    return Decimal(text)


def money_not_negative(text: str, field: str) -> Decimal:
    """Like `money`, for what is paid. Raises Refusal."""
    if (amount := money(text, field)) < 0:
        raise _invalid(field, f"{text} is negative")
    return amount


def spelled(amount: Decimal) -> str:
    """The decimal string of an amount, with two places, or up to four where it needs them."""
    cents = amount.quantize(_CENT)
    return f"{cents:f}" if cents == amount else f"{amount.normalize():f}"


def quantities(lines: Iterable[inventory_pb2.Line]) -> dict[str, int]:
    """Pieces by stock code, in the order of the codes: the order in which all callers lock them. Raises Refusal."""
    found: dict[str, int] = {}
    for position, line in enumerate(lines):
        if position >= _LINES_MAX:
            raise _invalid("lines", f"more than {_LINES_MAX}")
        code = required_id(line.stock_code, f"lines[{position}].stock_code")
        if not 1 <= line.quantity <= _QUANTITY_MAX:
            raise _invalid(f"lines[{position}].quantity", f"{line.quantity} is not from 1 to {_QUANTITY_MAX}")
        found[code] = found.get(code, 0) + line.quantity
    if not found:
        raise _invalid("lines", "is empty")
    return dict(sorted(found.items()))


def refuse_marked(order_id: str, mark: str, message: str) -> None:
    """Refuse the order whose id is `mark`, or begins with `mark-`: how the samples fail on purpose. Raises Refusal."""
    if order_id == mark or order_id.startswith(f"{mark}-"):
        raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)


def _invalid(field: str, what: str) -> Refusal:
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {what}")
