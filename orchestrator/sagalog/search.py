"""Searches for sagas by label and by a JSON path in the input: a window at a time, so that none runs for ever.

A search looks at sagas from the newest on until its page is full or its time is spent; then it says how far it came,
and whoever asks goes on from there. It has connections of its own, with a short statement timeout: searches can hold up
each other, and nothing else.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import psycopg

from orchestrator.errors import FieldViolation, Rejected
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.pool import REFUSED_STATEMENTS, Pool
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.records import Found, SagaFilter, saga_record

_SQL = load("reader.sql")

CONNECTIONS = 2
# A page is given out after so long, in seconds, be it full or not; and so long a statement looks for more.
PAGE_S = 1.0
_STATEMENT_S = 0.4
# Postgres ends a statement that takes longer: then one input alone is too much for its expression.
STATEMENT_MAX_S = 2.0
_WINDOW_ROWS = 1_000

# Inputs and results that take more in the table are left out of lists.
LISTED_BYTES_MAX = 2000
_FIRST_ID = UUID(int=0)
_LAST_ID = UUID(int=(1 << 128) - 1)
# An id's time is its replica's, `created_at` is Postgres': how far the two clocks may differ before a list by time
# could miss a saga.
_CLOCKS_APART = timedelta(hours=1)


class Search:
    """Searches by way of `pool`, whose statements Postgres ends after `STATEMENT_MAX_S`."""

    def __init__(self, pool: Pool, page_s: float = PAGE_S) -> None:
        self._pool = pool
        self._page_s = page_s

    async def find(self, wanted: SagaFilter, before: SagaId | None, page: int) -> Found:
        """At most `page` sagas behind `before`; there may be fewer, or none, and yet more to be found.

        Raises Rejected when the JSON path is none, or takes too long on one saga; LogUnavailable; Overloaded.
        """
        give_up_at_s = time.monotonic() + self._page_s
        found: list[SagaId] = []
        reached = before
        window = _WINDOW_ROWS
        while True:
            rows = await self._window(wanted, reached, window)
            if rows is None:
                if window == 1:
                    raise _rejected(f"takes more than {STATEMENT_MAX_S:g} s on one saga, the one behind {reached}")
                # The first of them may be the slow one: whether it is too slow, a window of its own tells.
                window = 1
                continue
            for saga_id, fits in rows:
                if fits is None or len(found) == page:
                    break
                reached = saga_id
                if fits:
                    found.append(saga_id)
            else:
                if len(rows) < window:
                    return await self._page(found, None)
            window = min(2 * window, _WINDOW_ROWS)
            if len(found) == page or time.monotonic() >= give_up_at_s:
                return await self._page(found, reached)

    async def _window(
        self, wanted: SagaFilter, before: SagaId | None, rows: int
    ) -> list[tuple[SagaId, bool | None]] | None:
        """The next sagas, and whether they fit; None when Postgres has ended the statement."""
        query, label = _driving_label(wanted)
        parameters: dict[str, Any] = {
            **id_range(wanted, before),
            **label,
            "states": list(wanted.states) or None,
            "definition": wanted.definition or None,
            "created_after": wanted.created_after,
            "created_before": wanted.created_before,
            "path": wanted.input_path or None,
            "rows": rows,
            "budget_s": _STATEMENT_S,
        }
        try:
            return [(SagaId(row[0]), row[1]) for row in await self._pool.fetch(_SQL[query], parameters)]
        except psycopg.errors.QueryCanceled:
            return None
        except REFUSED_STATEMENTS as error:
            raise _rejected(str(error.diag.message_primary or error)) from None

    async def _page(self, found: list[SagaId], reached: SagaId | None) -> Found:
        parameters = {"ids": found, "stored_bytes_max": LISTED_BYTES_MAX}
        rows = await self._pool.fetch(_SQL["some_sagas"], parameters) if found else []
        return Found([saga_record(row) for row in rows], reached)


def _driving_label(wanted: SagaFilter) -> tuple[str, dict[str, Any]]:
    """The statement for a filter, and what it must know of labels: one of them leads through its index."""
    if not wanted.labels and not wanted.label_keys:
        return "examine", {}
    rest = {
        "labels": orjson.dumps(dict(wanted.labels)).decode() if wanted.labels else None,
        "label_keys": list(wanted.label_keys) or None,
    }
    for key, value in wanted.labels.items():
        return "examine_labelled", {"key": key, "value": value, **rest}
    return "examine_named", {"key": wanted.label_keys[0], **rest}


def _rejected(description: str) -> Rejected:
    return Rejected("the request is not valid", (FieldViolation("input_path", description),))


def id_range(wanted: SagaFilter, before: SagaId | None) -> dict[str, UUID]:
    """Between which ids the sagas of a filter by time lie, if they are behind `before`."""
    return {
        "id_from": _bound(wanted.created_after, -_CLOCKS_APART, _FIRST_ID),
        "id_before": min(before or _LAST_ID, _bound(wanted.created_before, _CLOCKS_APART, _LAST_ID)),
    }


def _bound(at: datetime | None, slack: timedelta, otherwise: UUID) -> UUID:
    if at is None:
        return otherwise
    milliseconds = round((at.timestamp() + slack.total_seconds()) * 1000)
    return UUID(int=min(max(milliseconds, 0), (1 << 48) - 1) << 80)
