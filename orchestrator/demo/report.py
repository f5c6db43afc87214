"""What the demo prints: what it has read, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.audit.evidence import Evidence
from orchestrator.audit.judge import Verdict
from orchestrator.demo.feed import Feed
from orchestrator.demo.orders import InvoiceKind, OrderBook

_FAILED_STARTS_SHOWN = 10
_REASONS_SHOWN = 6


def print_book(console: Console, book: OrderBook, stock: int, declined: Sequence[str]) -> None:
    """What was read, every malformed line with its reason, and how the shop is set up."""
    kinds = Counter(invoice.kind for invoice in book.invoices)
    _line(
        console,
        f"{book.lines} lines: {kinds[InvoiceKind.ORDER]} orders, {kinds[InvoiceKind.RETURN]} returns, "
        f"{len(book.malformed)} malformed lines, {len(book.rejected)} invoices without a sound line",
    )
    for malformed in book.malformed:
        _line(console, f"  {malformed}")
    _line(console, f"{stock} pieces of each article; the cards of {len(declined)} customers are declined")


def print_result(console: Console, verdict: Verdict, evidence: Evidence, feed: Feed, retries: int) -> None:
    """What happened, and the verdict as a table, with the offences below it."""
    states = Counter(saga.state for saga in evidence.sagas)
    _line(console, ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    for reason, count in _reasons(evidence).most_common(_REASONS_SHOWN):
        _line(console, f"  {count:4} compensated: {reason}")
    _line(console, f"{_carried_on(evidence)} sagas were begun by one leader and carried on by another")
    _line(
        console,
        f"StartSaga: {len(feed.acknowledged)} acknowledged, {len(feed.failed)} failed, {retries} calls asked again",
    )
    for failed in feed.failed[:_FAILED_STARTS_SHOWN]:
        _line(console, f"  invoice {failed.invoice}: {failed.reason}")
    console.print(_table(verdict))
    for finding in verdict.findings:
        if not finding.holds:
            for line in finding.lines():
                _line(console, line)
    good = verdict.holds and not feed.failed
    console.print(
        Text("every invariant holds", style="bold green") if good else Text("NOT GOOD, see above", style="bold red")
    )


def _table(verdict: Verdict) -> Table:
    table = Table("invariant", "says", "checked", "verdict")
    for finding in verdict.findings:
        result = Text("holds", style="green") if finding.holds else Text("VIOLATED", style="bold red")
        table.add_row(finding.invariant, finding.says, finding.checked, result)
    return table


def _reasons(evidence: Evidence) -> Counter[str]:
    """Why sagas were compensated, without what differs from saga to saga."""
    return Counter(
        f"{saga.error.get('step', '')}: {str(saga.error.get('message', '')).partition(':')[0]}"
        for saga in evidence.sagas
        if saga.state == "COMPENSATED" and saga.error
    )


def _carried_on(evidence: Evidence) -> int:
    epochs: dict[str, set[int]] = {}
    for row in evidence.steps:
        epochs.setdefault(row.saga_id, set()).add(row.epoch)
    return sum(len(found) > 1 for found in epochs.values())


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
