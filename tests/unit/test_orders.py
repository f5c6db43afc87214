"""Reading orders from a shop's CSV: what is an order, what is a return, and what is named as neither."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.demo.orders import COLUMNS, InvoiceKind, OrderBook, OrdersUnreadable, parse_orders, read_orders

HEADER = ",".join(COLUMNS)
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "online-retail-10k.csv"


def book(*lines: str, encoding: str = "utf-8") -> OrderBook:
    return parse_orders("\n".join([HEADER, *lines]).encode(encoding))


def line(
    invoice: str = "536365", code: str = "85123A", quantity: str = "6", price: str = "2.55", customer: str = "17850"
) -> str:
    return f"{invoice},{code},HOLDER,{quantity},1/12/2010,{price},{customer},United Kingdom"


def test_lines_of_one_number_are_one_order_with_an_exact_total() -> None:
    read = book(line(price="0.1"), line("536366"), line(code="71053", quantity="3", price="0.2"))
    assert [invoice.number for invoice in read.invoices] == ["536365", "536366"]
    order = read.invoices[0]
    assert order.kind is InvoiceKind.ORDER
    assert order.total == Decimal("1.2")
    assert order.saga_input("X-1") == {
        "order_id": "X-1",
        "customer_id": "17850",
        "amount": "1.20",
        "destination": "United Kingdom",
        "lines": [{"stock_code": "85123A", "quantity": 6}, {"stock_code": "71053", "quantity": 3}],
    }


def test_a_cancellation_is_a_return_of_positive_amounts() -> None:
    (invoice,) = book(line("c536379", quantity="-2")).invoices
    assert (invoice.number, invoice.kind) == ("C536379", InvoiceKind.RETURN)
    assert invoice.total == Decimal("5.10")
    assert invoice.saga_input("C536379")["lines"] == [{"stock_code": "85123A", "quantity": 2}]


def test_a_guest_and_a_free_article_are_no_errors() -> None:
    read = book(line(customer="", price="0"))
    assert read.invoices[0].saga_input("1")["amount"] == "0.00"
    assert read.invoices[0].customer_id == ""
    assert read.malformed == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("536365,85123A,HOLDER,6", "has 4 columns, not 8"),
        (line() + ",more", "has 9 columns, not 8"),
        (line(invoice=""), "InvoiceNo '' is no invoice number"),
        (line(code=""), "StockCode is empty"),
        (line(code="A" * 101), "StockCode is not at most 100 printable characters"),
        (line(quantity="six"), "Quantity 'six' is not an integer"),
        (line(quantity="6.5"), "Quantity '6.5' is not an integer"),
        (line(quantity=""), "Quantity '' is not an integer"),
        (line(quantity="٣"), "is not an integer"),
        (line(quantity="99999999999"), "is not an integer of at most nine digits"),
        (line(quantity="0"), "Quantity is 0"),
        (line(quantity="-6"), "Quantity -6 is negative, but the invoice is no cancellation"),
        (line("C536365", quantity="6"), "Quantity 6 is positive, but the invoice is a cancellation"),
        (line(price="2,55"), "has 9 columns"),
        (line(price="free"), "UnitPrice 'free' is not a decimal number"),
        (line(price="1e3"), "UnitPrice '1e3' is not a decimal number"),
        (line(price="NaN"), "UnitPrice 'NaN' is not a decimal number"),
        (line(price="0.00001"), "with at most four places"),
        (line(price="-2.55"), "UnitPrice -2.55 is negative"),
        (line().replace("HOLDER", '"HOLDER'), "a quote is never closed"),
        (line().replace("HOLDER", '"HOLDER"x'), "is no CSV"),
    ],
)
def test_a_malformed_line_is_named_with_its_number_and_reason_and_others_go_on(text: str, reason: str) -> None:
    read = book(line("536360"), text, line("536370"))
    (malformed,) = read.malformed
    assert malformed.number == 3
    assert reason in malformed.reason
    assert str(malformed).startswith("line 3")
    assert [invoice.number for invoice in read.invoices] == ["536360", "536370"]
    assert read.lines == 3


def test_a_line_of_another_customer_does_not_join_the_order() -> None:
    read = book(line(), line(customer="13047"))
    assert len(read.invoices[0].lines) == 1
    assert read.malformed[0].reason == "CustomerID '13047' is not '17850', as in line 2"


def test_an_invoice_without_a_sound_line_is_named_as_rejected() -> None:
    read = book(line("536589", quantity="-10"), line("536590"), line("536590", quantity="x"))
    assert read.rejected == ("536589",)
    assert [invoice.number for invoice in read.invoices] == ["536590"]
    assert len(read.malformed) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_every_encoding_that_such_files_come_in_is_read(encoding: str) -> None:
    read = book(line().replace("HOLDER", "£1 HOLDER"), encoding=encoding)
    assert read.invoices[0].lines[0].description == "£1 HOLDER"
    assert read.malformed == ()


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(OrdersUnreadable, match="save it as UTF-8"):
        parse_orders(HEADER.encode() + b"\n\x81\xff")


def test_a_quote_within_a_field_is_a_character() -> None:
    assert book(line().replace("HOLDER", 'HOLDER 6"')).invoices[0].lines[0].description == 'HOLDER 6"'


def test_quotes_hold_commas_line_breaks_and_quotes() -> None:
    read = book(line().replace("HOLDER", '"HOLDER, ""LARGE""\nWHITE"'), line("536366"), line("536367", quantity="x"))
    assert read.invoices[0].lines[0].description == 'HOLDER, "LARGE"\nWHITE'
    assert read.invoices[1].lines[0].number == 4
    assert read.malformed[0].number == 5


def test_line_ends_of_any_kind_and_empty_lines_do_not_matter() -> None:
    text = "\r\n".join(["", HEADER, "", line(), line("536366"), ""])
    read = parse_orders(text.encode())
    assert [invoice.lines[0].number for invoice in read.invoices] == [4, 5]


def test_columns_may_come_in_another_order_and_more_of_them() -> None:
    header = "Country,CustomerID,UnitPrice,InvoiceDate,Quantity,Description,StockCode,InvoiceNo,Remark"
    read = parse_orders(f"{header}\nFrance,1,2.5,1/12/2010,2,X,A1,7,hello".encode())
    assert read.invoices[0].total == 5
    assert read.invoices[0].country == "France"


@pytest.mark.parametrize("data", [b"", b"\n\n", b"InvoiceNo,StockCode\n1,2", b'"'])
def test_a_file_without_the_columns_is_refused_and_the_columns_are_named(data: bytes) -> None:
    with pytest.raises(OrdersUnreadable, match="InvoiceNo,StockCode,Description"):
        parse_orders(data)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OrdersUnreadable, match=r"no\.csv: No such file"):
        read_orders(tmp_path / "no.csv")


@pytest.mark.skipif(not SHARED.exists(), reason=f"the real data is not there: {SHARED}")
def test_every_line_of_the_real_data_is_in_an_invoice_or_named() -> None:
    read = read_orders(SHARED)
    assert len(read.invoices) + len(read.rejected) == 512
    assert sum(invoice.kind is InvoiceKind.RETURN for invoice in read.invoices) == 43
    assert sum(len(invoice.lines) for invoice in read.invoices) + len(read.malformed) == read.lines == 9_999
    # The data's own corrections of stock: negative, free of charge, and no cancellations.
    assert len(read.malformed) == len(read.rejected) == 30
    assert all("no cancellation" in malformed.reason for malformed in read.malformed)
    orders = sum((i.total for i in read.invoices if i.kind is InvoiceKind.ORDER), Decimal(0))
    returns = sum((i.total for i in read.invoices if i.kind is InvoiceKind.RETURN), Decimal(0))
    assert (orders, returns) == (Decimal("184239.83"), Decimal("3580.58"))
