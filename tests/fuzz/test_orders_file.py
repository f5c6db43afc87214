"""Any bytes as a file of orders: read, or refused as a whole with a reason; no line is ever lost in silence."""

from __future__ import annotations

import codecs
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.demo import orders
from orchestrator.demo.orders import (
    COLUMNS,
    InvoiceKind,
    OrderBook,
    OrdersUnreadable,
    parse_orders,
    read_orders,
    spelled,
)

from .rounds import rounds
from .values import texts

HEADER = ",".join(COLUMNS)

_FIELDS = {
    "InvoiceNo": st.sampled_from(["536365", "C536379", "c1", "A563185", "", " 536365 ", "x" * 60, "x" * 2_000]),
    "StockCode": st.sampled_from(["85123A", "", "POST", "a\x00b", "é", "x" * 200]),
    "Description": texts,
    "Quantity": st.one_of(
        st.integers(-9, 9).map(str), st.sampled_from(["6.5", "٣", "1e3", "9" * 10, " 6 ", "-", "9" * 2_000])
    ),
    "InvoiceDate": texts,
    "UnitPrice": st.sampled_from(["2.55", "0", "-1", "0.00001", "NaN", "1e3", "2,55", "99999999", "0.1", "9" * 2_000]),
    "CustomerID": st.sampled_from(["17850", "", "\u2028", "17851", "1" * 2_000]),
    "Country": st.sampled_from(["United Kingdom", "Norway", "", "\r"]),
}


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if any(mark in field for mark in ',"\r\n') else field


_rows = st.fixed_dictionaries(_FIELDS).map(lambda row: ",".join(_quoted(row[name]) for name in COLUMNS))
_lines = st.lists(st.one_of(_rows, texts, st.sampled_from(["", '"', '"a,b', ",,,,,,,", "\x00", '"a"b,c'])), max_size=12)
_encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"])


def judged(data: bytes) -> OrderBook | None:
    """The orders, or None when the file is refused as a whole; every line is accounted for."""
    began_s = time.process_time()
    try:
        book = parse_orders(data)
    except OrdersUnreadable as error:
        # At no length, whatever the file is.
        reason = str(error)
        book = None
    assert time.process_time() - began_s < 5.0
    if book is None:
        assert 0 < len(reason) < 500
    else:
        accounted(book)
    return book


def accounted(book: OrderBook) -> None:
    """Check that each row is a line of one invoice, or named as malformed, and none is both or neither."""
    sound = [line.number for invoice in book.invoices for line in invoice.lines]
    malformed = [line.number for line in book.malformed]
    assert len(sound) + len(malformed) == book.lines
    assert len({*sound, *malformed}) == book.lines
    assert all(number > 1 for number in (*sound, *malformed))
    assert all(line.reason and len(str(line)) < 1000 for line in book.malformed)
    for invoice in book.invoices:
        assert invoice.lines
        assert all(line.quantity >= 1 and line.unit_price >= 0 for line in invoice.lines)
        assert Decimal(spelled(invoice.total)) == invoice.total
        assert invoice.kind in (InvoiceKind.ORDER, InvoiceKind.RETURN)
        assert invoice.saga_input("x")["amount"] == spelled(invoice.total)
    assert not {invoice.number for invoice in book.invoices} & set(book.rejected)


@rounds(300)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(codecs.BOM_UTF16_LE.__add__)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    judged(data)


@rounds(300)
@given(_lines, st.sampled_from(["\n", "\r\n", "\r", "\n\n"]), _encodings, st.binary(max_size=3))
def test_every_line_of_a_table_is_an_order_line_or_named(
    lines: list[str], end: str, encoding: str, tail: bytes
) -> None:
    data = end.join([HEADER, *lines]).encode(encoding, errors="replace")
    judged(data + tail)


@rounds(200)
@given(st.lists(_rows, max_size=12), st.permutations(COLUMNS))
def test_of_rows_that_fill_one_line_each_none_is_lost(rows: list[str], columns: list[str]) -> None:
    single = [row for row in rows if len(row.splitlines()) == 1 and row.strip()]
    book = judged("\n".join([HEADER, *single]).encode())
    assert book is not None
    assert book.lines == len(single)
    # Whatever the order of the columns, the header is found.
    assert judged(",".join(columns).encode()) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe\x00",
        b"\x00" * 100_000,
        b'"' * 200_000,
        (HEADER + "\n" + '"' * 100_001).encode(),
        (HEADER + "\n" + '"\n' * 50_000).encode(),
        (HEADER + "\n" + "a" * 2_000_000).encode(),
        (HEADER + "\n" + "," * 1_000_000).encode(),
        (HEADER + "\n" + '"' + "\n" * 100_000).encode(),
        (HEADER + "\n" + "\x00,\r\n" * 10_000).encode(),
        ("x," * 500_000).encode(),
        (HEADER + "\n" + "x" * 90_000 + ",A,A,1,,1,,\n1,A,A," + "9" * 90_000 + ",,1,,").encode(),
        HEADER.encode("utf-16-be"),
    ],
    ids=range(13),
)
def test_files_that_are_made_to_hurt_are_read_or_refused(data: bytes) -> None:
    judged(data)


def test_a_file_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "FILE_BYTES_MAX", 1000)
    with pytest.raises(OrdersUnreadable, match="1000 bytes"):
        read_orders(Path("/dev/zero"))
    file = tmp_path / "orders.csv"
    file.write_bytes(HEADER.encode().ljust(1000))
    assert read_orders(file).lines == 0
    file.write_bytes(HEADER.encode().ljust(1001))
    with pytest.raises(OrdersUnreadable, match="1000 bytes"):
        read_orders(file)
