"""How the sample shop is set up for a demo: too little stock, and some cards that are declined. Pure."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence

from orchestrator.demo.orders import Invoice, InvoiceKind

_STOCK_SHARE = 5
# A handful of orders would all fail if there were only a share of what they want.
_ORDERS_MIN = 20
_DECLINED_ONE_IN = 12
# The list travels in an environment variable.
_DECLINED_MAX = 200


def initial_stock(invoices: Sequence[Invoice]) -> int:
    """Pieces of every article, so that the most wanted ones run out: a fifth of the largest demand for one.

    Of a few orders, all can be served.
    """
    orders = [invoice for invoice in invoices if invoice.kind is InvoiceKind.ORDER]
    wanted: Counter[str] = Counter()
    for order in orders:
        for line in order.lines:
            wanted[line.stock_code] += line.quantity
    largest = max(wanted.values(), default=0)
    return largest // _STOCK_SHARE if len(orders) >= _ORDERS_MIN else largest


def declined_customers(invoices: Sequence[Invoice]) -> list[str]:
    """About one customer in twelve, always the same ones for the same file."""
    customers = sorted({invoice.customer_id for invoice in invoices if invoice.customer_id})
    chosen = [customer for customer in customers if zlib.crc32(customer.encode()) % _DECLINED_ONE_IN == 0]
    # A comma would be two customers in the list.
    return [customer for customer in chosen if "," not in customer][:_DECLINED_MAX]
