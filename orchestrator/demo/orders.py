"""Orders and returns, read from the lines of a shop's CSV: one invoice is one order, a cancellation one return.

The file has the columns of the "Online Retail" data (InvoiceNo, StockCode, Description, Quantity, InvoiceDate,
UnitPrice, CustomerID, Country), in any order, in UTF-8 (with or without a byte order mark), UTF-16 or Windows-1252. A
number C and digits is a cancellation. Lines that make no sense are kept apart with their line number and the reason,
never dropped in silence; the invoice goes on with its sound lines, or not at all if it has none. Money is exact.

Pure but for `read_orders`, which reads the file.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestrator.errors import BatonError

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")

_CANCELLATION = re.compile(r"[Cc][0-9]+", re.ASCII)
_NUMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
_PRICE = re.compile(r"-?[0-9]{1,7}(\.[0-9]{1,4})?", re.ASCII)
_TEXT_LENGTH_MAX = 100
# A quoted field may hold line breaks; a quote that is still open after so many lines was never meant to be one.
_QUOTED_LINES_MAX = 20
# Ten times the shop's own year of orders. What is not a file at all (/dev/zero) has no end.
FILE_BYTES_MAX = 500_000_000
_SHOWN_CHARS = 60
_CENT = Decimal("0.01")


class OrdersUnreadable(BatonError):
    """The file as a whole cannot be read as orders: it is missing, no text, or lacks a column."""


class InvoiceKind(StrEnum):
    """What an invoice is, which is also the name of the saga's definition."""

    ORDER = "order"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice; `quantity` is at least 1, for returns as well, and `number` the line of the file."""

    number: int
    stock_code: str
    description: str
    quantity: int
    unit_price: Decimal

    @property
    def amount(self) -> Decimal:
        """What the line costs, exactly."""
        return self.quantity * self.unit_price


@dataclass(frozen=True, slots=True)
class Invoice:
    """An order, or a return. `customer_id` is empty for a guest."""

    number: str
    kind: InvoiceKind
    customer_id: str
    country: str
    date: str
    lines: tuple[Line, ...]

    @property
    def total(self) -> Decimal:
        """What the invoice costs, or gives back, exactly; never negative."""
        return sum((line.amount for line in self.lines), Decimal(0))

    def saga_input(self, order_id: str) -> dict[str, Any]:
        """The input of the invoice's saga, under the number `order_id`; money as a decimal string."""
        return {
            "order_id": order_id,
            "customer_id": self.customer_id,
            "amount": spelled(self.total),
            "destination": self.country,
            "lines": [{"stock_code": line.stock_code, "quantity": line.quantity} for line in self.lines],
        }


@dataclass(frozen=True, slots=True)
class MalformedLine:
    """A line of the file that is no line of an invoice. `number` counts from 1, the header included."""

    number: int
    invoice: str
    reason: str

    def __str__(self) -> str:
        where = f" (invoice {self.invoice})" if self.invoice else ""
        return f"line {self.number}{where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class OrderBook:
    """What a file holds: its invoices in the order of their first lines, and what could not be understood.

    `lines` counts the lines with content behind the header; `rejected` are invoices of which no line was sound.
    """

    invoices: tuple[Invoice, ...]
    malformed: tuple[MalformedLine, ...]
    rejected: tuple[str, ...]
    lines: int
    encoding: str


def read_orders(path: Path) -> OrderBook:
    """Read the file at `path`. Raises OrdersUnreadable, which says what is wrong with it and what is expected."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise OrdersUnreadable(f"{path}: {error.strerror}: name a CSV file with the columns {_listed()}") from error
    if len(data) > FILE_BYTES_MAX:
        raise OrdersUnreadable(f"{path}: has more than {FILE_BYTES_MAX} bytes: split it")
    try:
        return parse_orders(data)
    except OrdersUnreadable as error:
        raise OrdersUnreadable(f"{path}: {error}") from None


def parse_orders(data: bytes) -> OrderBook:
    """The orders in the bytes of a CSV file. Raises OrdersUnreadable."""
    text, encoding = _decode(data)
    rows = _rows(text)
    header = next(rows, None)
    if header is None or isinstance(header[1], str):
        raise OrdersUnreadable(f"there is no header: expected {_listed()}")
    places = _places(header[1])
    reader = _Reader(places, width=len(header[1]))
    for number, row in rows:
        reader.read(number, row)
    return OrderBook(
        invoices=tuple(draft.invoice() for draft in reader.drafts.values() if draft.lines),
        malformed=tuple(reader.malformed),
        rejected=tuple(reader.rejected()),
        lines=reader.lines,
        encoding=encoding,
    )


def spelled(amount: Decimal) -> str:
    """The decimal string of an amount with two places, or up to four where it needs them."""
    cents = amount.quantize(_CENT)
    return f"{cents:f}" if cents == amount else f"{amount.normalize():f}"


@dataclass(slots=True)
class _Draft:
    number: str
    kind: InvoiceKind
    customer_id: str
    country: str
    date: str
    lines: list[Line]

    def invoice(self) -> Invoice:
        return Invoice(self.number, self.kind, self.customer_id, self.country, self.date, tuple(self.lines))


class _Malformed(Exception):
    """The reason why the line at hand is no line of an invoice."""


class _Reader:
    """Collects lines into invoices."""

    def __init__(self, places: dict[str, int], width: int) -> None:
        self._places = places
        self._width = width
        self._seen: dict[str, None] = {}
        self.drafts: dict[str, _Draft] = {}
        self.malformed: list[MalformedLine] = []
        self.lines = 0

    def rejected(self) -> list[str]:
        """Invoices that were named and have no sound line."""
        return [number for number in self._seen if number not in self.drafts]

    def read(self, number: int, row: list[str] | str) -> None:
        """Take in one row, or the reason why it is none."""
        self.lines += 1
        invoice = ""
        try:
            if isinstance(row, str):
                raise _Malformed(row)
            if len(row) != self._width:
                raise _Malformed(f"has {len(row)} columns, not {self._width}")
            fields = {name: row[place].strip() for name, place in self._places.items()}
            invoice = fields["InvoiceNo"]
            self._take(number, fields)
        except _Malformed as error:
            if _NUMBER.fullmatch(invoice):
                self._seen[_canonical(invoice)] = None
            self.malformed.append(MalformedLine(number, invoice[:_SHOWN_CHARS], str(error)))

    def _take(self, number: int, fields: dict[str, str]) -> None:
        if not _NUMBER.fullmatch(fields["InvoiceNo"]):
            raise _Malformed(f"InvoiceNo {_shown(fields['InvoiceNo'])} is no invoice number")
        invoice = _canonical(fields["InvoiceNo"])
        kind = InvoiceKind.RETURN if _CANCELLATION.fullmatch(invoice) else InvoiceKind.ORDER
        line = Line(
            number,
            _text(fields, "StockCode", required=True),
            fields["Description"],
            _quantity(fields["Quantity"], kind),
            _unit_price(fields["UnitPrice"]),
        )
        customer_id, country = _text(fields, "CustomerID"), _text(fields, "Country")
        draft = self.drafts.get(invoice)
        if draft is None:
            draft = self.drafts[invoice] = _Draft(invoice, kind, customer_id, country, fields["InvoiceDate"], [])
        # One order has one customer and one destination: to choose one of two would be to guess.
        if customer_id != draft.customer_id:
            raise _Malformed(f"CustomerID {customer_id!r} is not {draft.customer_id!r}, as in line {_first(draft)}")
        if country != draft.country:
            raise _Malformed(f"Country {country!r} is not {draft.country!r}, as in line {_first(draft)}")
        draft.lines.append(line)


def _first(draft: _Draft) -> int:
    return draft.lines[0].number


def _canonical(invoice: str) -> str:
    return invoice.upper() if _CANCELLATION.fullmatch(invoice) else invoice


def _text(fields: dict[str, str], column: str, *, required: bool = False) -> str:
    value = fields[column]
    if required and not value:
        raise _Malformed(f"{column} is empty")
    if len(value) > _TEXT_LENGTH_MAX or not value.isprintable():
        raise _Malformed(f"{column} is not at most {_TEXT_LENGTH_MAX} printable characters")
    return value


def _shown(field: str) -> str:
    return f"{field!r:.{_SHOWN_CHARS}}"


def _quantity(text: str, kind: InvoiceKind) -> int:
    if not _INTEGER.fullmatch(text):
        raise _Malformed(f"Quantity {_shown(text)} is not an integer of at most nine digits")
    quantity = int(text)
    if quantity == 0:
        raise _Malformed("Quantity is 0")
    if kind is InvoiceKind.ORDER and quantity < 0:
        raise _Malformed(f"Quantity {quantity} is negative, but the invoice is no cancellation (C...)")
    if kind is InvoiceKind.RETURN and quantity > 0:
        raise _Malformed(f"Quantity {quantity} is positive, but the invoice is a cancellation")
    return abs(quantity)


def _unit_price(text: str) -> Decimal:
    if not _PRICE.fullmatch(text):
        raise _Malformed(f"UnitPrice {_shown(text)} is not a decimal number with at most four places")
    price = Decimal(text)
    if price < 0:
        raise _Malformed(f"UnitPrice {text:.{_SHOWN_CHARS}} is negative")
    return price


def _decode(data: bytes) -> tuple[str, str]:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    # The shop's original file is Windows-1252, which is no valid UTF-8 as soon as it has a pound sign.
    candidates = ["utf-16"] if wide else ["utf-8-sig", "cp1252"]
    for encoding in candidates:
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise OrdersUnreadable(f"this is no text in {' or '.join(candidates)}: save it as UTF-8")


def _rows(text: str) -> Iterator[tuple[int, list[str] | str]]:
    """Each row with the number of its first line, or why that line begins no row. Empty lines are passed over."""
    # newline="" keeps the ends of lines as they are, and StringIO knows only those that CSV knows.
    lines = io.StringIO(text, newline="").readlines()
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        row, length = _row(lines, at)
        yield at + 1, row
        at += length


def _row(lines: list[str], at: int) -> tuple[list[str] | str, int]:
    problem = ""
    for length in range(1, _QUOTED_LINES_MAX + 1):
        try:
            return next(csv.reader(lines[at : at + length], strict=True)), length
        except csv.Error as error:
            problem = problem or str(error)
            if "unexpected end of data" not in str(error) or at + length >= len(lines):
                break
    # An open quote must not swallow what follows: only the line that opens it is given up.
    return "a quote is never closed" if "unexpected end" in problem else f"is no CSV: {problem}", 1


def _places(header: list[str]) -> dict[str, int]:
    found = {name.strip().lower(): place for place, name in enumerate(header)}
    if missing := [name for name in COLUMNS if name.lower() not in found]:
        raise OrdersUnreadable(f"the header lacks {', '.join(missing)}: expected {_listed()}")
    return {name: found[name.lower()] for name in COLUMNS}


def _listed() -> str:
    return ",".join(COLUMNS)
