"""What is driven over the crash points: every definition of deploy/definitions, and one for each feature that none has.

A new definition is a line in FLOWS. A new feature of the saga language is an entry of FEATURES if the cases of any
definition show it, or else a flow with cases of its own in one of the files features_*.py.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.saga.model import Json
from orchestrator.saga.parse import parse
from orchestrator.saga.variables import expand

from .features_calls import CALLS
from .features_mixed import MEETING
from .features_order import ORDERED
from .features_paused import GOVERNED
from .features_people import PEOPLE
from .flow import Flow

# What has cases of its own.
LANGUAGE = {one.definition.name: one for one in (*CALLS, *ORDERED, *PEOPLE, *GOVERNED, *MEETING)}

DEFINITIONS = Path(__file__).parents[2] / "deploy" / "definitions"

ORDER: Json = {
    "order_id": "536365",
    "customer_id": "17850",
    "amount": "15.30",
    "lines": [{"stock_code": "85123A", "quantity": 6}],
    "destination": "London",
}


# By the name of the file, without .yaml.
FLOWS: dict[str, Json] = {
    "order-create-charge-reserve-confirm": ORDER,
    "order-pay-reserve-ship": ORDER,
    "order-reserve-pay-create": ORDER,
    "order-reserve-pay-ship": ORDER,
    "order": ORDER,
    "return": ORDER,
}

# A second crash in each of its runs takes minutes and shows what the shorter flows show: the command strikes them, the
# suite leaves them out.
SINGLE_FAULTS_IN_SUITE = frozenset({"order"})

# What the definitions above make no use of.
FEATURES: dict[str, tuple[str, Json]] = {
    "nothing-to-undo": (
        """
name: nothing-to-undo
steps:
  - {name: look, service: 's:1', action: {method: t.S/Look}, compensation: none}
  - {name: take, service: 's:1', action: {method: t.S/Take}, compensation: {method: t.S/Give}}
  - {name: tell, service: 's:1', action: {method: t.S/Tell}, compensation: none}
""",
        {},
    ),
    "results-as-requests": (
        """
name: results-as-requests
steps:
  - name: book
    service: 's:1'
    action: {method: t.S/Book}
    compensation: {method: t.S/Unbook, request: {key: "results.book.key || ''"}}
  - name: pay
    service: 's:2'
    action: {method: t.S/Pay, request: {key: results.book.key, saga: saga.id}}
    compensation: {method: t.S/Repay, request: {key: results.book.key}}
""",
        {},
    ),
    "budgets": (
        """
name: budgets
steps:
  - name: once
    service: 's:1'
    retry: {retries: 0}
    action: {method: t.S/Do}
    compensation: {method: t.S/Undo, retry: {retries: 1, initial: 10ms}}
  - name: twice
    service: 's:1'
    retry: {retries: 1, initial: 10ms, jitter: 0}
    action: {method: t.S/Do}
    compensation: {method: t.S/Undo, retry: {retries: 0}}
""",
        {},
    ),
}


def flow(name: str) -> Flow:
    """The flow of this name, in version 1. Raises KeyError."""
    if name in FLOWS:
        text = expand((DEFINITIONS / f"{name}.yaml").read_text(encoding="utf-8"), {})
        return Flow(parse(text, 1), FLOWS[name])
    if name in LANGUAGE:
        return LANGUAGE[name]
    text, value = FEATURES[name]
    return Flow(parse(text, 1), value)


def names() -> list[str]:
    """Every flow, those of deploy/definitions first."""
    return [*FLOWS, *FEATURES, *LANGUAGE]
