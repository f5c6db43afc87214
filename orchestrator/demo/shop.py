"""How the sample shop is set up for a demo: too little stock, and some cards that are declined. Pure."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence

from orchestrator.demo.orders import Invoice, InvoiceKind

_STOCK_SHARE = 5
_DECLINED_ONE_IN = 12
# The list travels in an environment variable.
_DECLINED_MAX = 200


def initial_stock(invoices: Sequence[Invoice]) -> int:
    """Pieces of every article, so that the most wanted ones run out: a fifth of the largest demand for one."""
    wanted: Counter[str] = Counter()
    for invoice in invoices:
        if invoice.kind is InvoiceKind.ORDER:
            for line in invoice.lines:
                wanted[line.stock_code] += line.quantity
    return max(wanted.values(), default=0) // _STOCK_SHARE


def declined_customers(invoices: Sequence[Invoice]) -> list[str]:
    """About one customer in twelve, always the same ones for the same file."""
    customers = sorted({invoice.customer_id for invoice in invoices if invoice.customer_id})
    chosen = [customer for customer in customers if zlib.crc32(customer.encode()) % _DECLINED_ONE_IN == 0]
    # A comma would be two customers in the list.
    return [customer for customer in chosen if "," not in customer][:_DECLINED_MAX]
