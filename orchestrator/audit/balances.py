"""The balances: what is in stock and on the accounts is what the ledgers, and the sagas themselves, say. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from orchestrator.audit.evidence import Evidence, Money, StockRow
from orchestrator.audit.finding import Finding, Offence

# By what an entry of the ledger changes the pieces in stock, or the money of the shop.
_PIECES = {"reserve": -1, "release": 1, "restock": 1, "undo_restock": -1}
_MONEY = {"charge": 1, "refund": -1, "recharge": 1}

# The definitions whose input says what they cost.
_ORDER, _RETURN = "order", "return"


def balances_agree(evidence: Evidence) -> Finding:
    """Stock and money, each counted in up to four ways that share no code."""
    offences: list[Offence] = []
    checked = []
    if evidence.stock is not None:
        offences += [Offence("", what) for what in _stock(evidence, evidence.stock)]
        checked.append(f"{sum(row.available for row in evidence.stock)} pieces of {len(evidence.stock)} articles")
    if evidence.money is not None:
        offences += [Offence("", what) for what in _money(evidence, evidence.money)]
        checked.append(f"money {evidence.money.balance:.2f}")
    return Finding("balances", "stock and money add up", ", ".join(checked) or "no accounts", tuple(offences))


def _stock(evidence: Evidence, rows: Sequence[StockRow]) -> Iterator[str]:
    for row in rows:
        expected = row.initial - row.reserved + row.restocked
        if row.available != expected:
            yield (
                f"article {row.stock_code}: {row.initial} - {row.reserved} reserved + {row.restocked} restocked = "
                f"{expected}, but {row.available} are available"
            )
    moved = sum(row.available - row.initial for row in rows)
    written = sum(
        _PIECES[name] * int(effect.effect["quantity"])
        for effect in evidence.effects
        if (name := str(effect.effect.get("effect"))) in _PIECES and effect.service == "inventory"
    )
    if moved != written:
        yield f"the stock changed by {moved} pieces, the ledger says {written}"


def _money(evidence: Evidence, money: Money) -> Iterator[str]:
    if money.charged - money.refunded != money.balance:
        yield f"charged {money.charged} - refunded {money.refunded} is not the accounts' {money.balance}"
    written = sum(
        (
            _MONEY[name] * Decimal(effect.effect["amount"])
            for effect in evidence.effects
            if (name := str(effect.effect.get("effect"))) in _MONEY and effect.service == "payment"
        ),
        Decimal(0),
    )
    if written != money.balance:
        yield f"the accounts hold {money.balance}, the ledger says {written}"
    # Only where all sagas say what they cost, and none is left half done in a person's hands.
    if all(saga.definition in (_ORDER, _RETURN) and saga.state != "FAILED" for saga in evidence.sagas):
        done = [saga for saga in evidence.sagas if saga.state == "COMPLETED"]
        sold = sum((Decimal(str(saga.input["amount"])) for saga in done if saga.definition == _ORDER), Decimal(0))
        returned = sum((Decimal(str(saga.input["amount"])) for saga in done if saga.definition == _RETURN), Decimal(0))
        if sold - returned != money.balance:
            yield f"completed orders cost {sold}, returns {returned}, but the accounts hold {money.balance}"
