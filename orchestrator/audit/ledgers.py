"""Reads the evidence for an audit out of the saga log and the participants' databases."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, LiteralString

import psycopg
import yaml
from psycopg import sql

from orchestrator.audit.evidence import (
    EffectRow,
    EpochRow,
    Evidence,
    Money,
    SagaRow,
    StepRow,
    StepShape,
    StockRow,
    Tombstone,
)

_CONNECT_TIMEOUT_S = 10
_STATEMENT_TIMEOUT_MS = 120_000

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)

Connection = psycopg.Connection[tuple[Any, ...]]


def load_evidence(dsn_log: str, dsn_shop: str | None) -> Evidence:
    """Everything that the two databases say, each in one snapshot; the ledgers first, since intents are older.

    Without a `dsn_shop` there are no effects, and what follows from them cannot be judged. Raises psycopg.Error.
    """
    effects: list[EffectRow] = []
    tombstones: list[Tombstone] = []
    stock: list[StockRow] | None = None
    money: Money | None = None
    if dsn_shop is not None:
        with _snapshot(dsn_shop) as shop:
            services = [str(row[0]) for row in _rows(shop, "services")]
            for service in services:
                effects += [EffectRow(*row) for row in _rows_of(shop, "effects", service)]
                tombstones += [Tombstone(*row) for row in _rows_of(shop, "tombstones", service)]
            stock = [StockRow(*row) for row in _rows(shop, "stock")] if "inventory" in services else None
            money = Money(*next(iter(_rows(shop, "money")))) if "payment" in services else None
    with _snapshot(dsn_log) as log:
        return Evidence(
            sagas=[SagaRow(*row) for row in _rows(log, "sagas")],
            steps=[StepRow(*row) for row in _rows(log, "steps")],
            epochs=[EpochRow(*row) for row in _rows(log, "epochs")],
            definitions={(name, version): shape(text) for name, version, text in _rows(log, "definitions")},
            effects=effects,
            tombstones=tombstones,
            stock=stock,
            money=money,
        )


def _snapshot(dsn: str) -> Connection:
    connection = psycopg.connect(
        dsn,
        connect_timeout=_CONNECT_TIMEOUT_S,
        application_name="baton-audit",
        options=f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
    )
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    return connection


def _rows(connection: Connection, name: str) -> Iterable[tuple[Any, ...]]:
    return connection.execute(query(name))


def _rows_of(connection: Connection, name: str, service: str) -> Iterable[tuple[Any, ...]]:
    text = sql.SQL(query(name)).format(service=sql.Literal(service), schema=sql.Identifier(service))
    return connection.execute(text)


# PyYAML has two readers, and the one refuses what the other takes: read as the replicas do.
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def shape(text: str) -> tuple[StepShape, ...]:
    """The steps of a definition, by its text."""
    # A step may wait for a person or a time, or run another saga: then it calls nobody, and has no effect of its own.
    steps = yaml.load(text, Loader=_LOADER)["steps"]
    return tuple(
        StepShape(step["name"], "action" in step and step.get("compensation", "none") != "none", "action" in step)
        for step in steps
    )


@cache
def _queries() -> dict[str, str]:
    _, *parts = _NAME.split((files(__package__) / "ledgers.sql").read_text(encoding="utf-8"))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def query(name: str) -> LiteralString:
    """The text of a query of ledgers.sql."""
    # Literal as far as it matters: the text comes from our own file and from nowhere else.
    return _queries()[name]
