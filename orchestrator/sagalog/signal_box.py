"""Signals on their way into the log, on any replica, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import orjson
import psycopg

from orchestrator.errors import AlreadyTold, FieldViolation, NotFound, Rejected
from orchestrator.saga.model import Json, SagaId
from orchestrator.saga.signals import Signal
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.port import StoredSaga
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.rows import stored_sagas

_SQL = load("signals.sql")


@dataclass(frozen=True, slots=True)
class Fate:
    """Whether a signal was heeded, and why not, if it was refused."""

    heard: bool
    refusal: str


@dataclass(frozen=True, slots=True)
class WaitingStep:
    """A step that waits since `since`, and no longer than `until`."""

    saga_id: SagaId
    definition: str
    version: int
    position: int
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of what asks for approvals: behind the saga `id`, which began to ask at `at`."""

    at: datetime
    id: SagaId


@dataclass(frozen=True, slots=True)
class AskedPage:
    """What waits in a page of sagas that ask for approvals; the next page begins behind `last`, if there is one."""

    steps: tuple[WaitingStep, ...]
    last: Place | None


_FIRST = Place(datetime.fromtimestamp(0, UTC), SagaId(UUID(int=0)))


class SignalBox:
    """Every method raises LogUnavailable when Postgres does not answer in time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def post(self, saga_id: SagaId, signal: Signal) -> int:
        """Store a signal, durably; its number.

        Raises NotFound when there is no such saga, AlreadyTold when another answer for the step waits to be heeded,
        Rejected when the answer holds what cannot be stored.
        """
        parameters = {
            "key": uuid4(),
            "saga": saga_id,
            "verb": signal.verb.value,
            "step": signal.step,
            "result": _json(signal.result),
            "code": signal.code,
            "message": signal.message,
            "ordered": None if signal.order is None else _json(asdict(signal.order)),
        }
        try:
            rows = await self._pool.fetch(_SQL["post"], parameters)
        except psycopg.DataError as error:
            # Not what Postgres quotes of it: it may be a secret.
            problem = f"holds what Postgres cannot store: {error.diag.message_primary}"
            raise Rejected("the answer cannot be stored", (FieldViolation("response", problem),)) from None
        sagas, number, _ = rows[0]
        if not sagas:
            raise NotFound(f"there is no saga {saga_id}")
        if number is None:
            raise AlreadyTold(f"another answer for step {signal.step} of saga {saga_id} waits to be heeded")
        return int(number)

    async def fate(self, number: int) -> Fate:
        """What became of a signal. One that is gone was heeded with its saga, which has been removed."""
        rows = await self._pool.fetch(_SQL["fate"], {"id": number})
        return Fate(bool(rows[0][0]), str(rows[0][1])) if rows else Fate(True, "")

    async def stored(self, saga_id: SagaId) -> StoredSaga | None:
        """A saga as a leader reads it; None when there is none of this id."""
        sagas = await self._pool.fetch(_SQL["saga"], {"id": saga_id})
        if not sagas:
            return None
        events = await self._pool.fetch(_SQL["events"], {"id": saga_id, "last": sagas[0][8]})
        return stored_sagas(sagas, events)[0]

    async def asked(self, definitions: Sequence[str], after: Place | None, page: int) -> AskedPage:
        """All that waits in the next `page` sagas of these definitions that ask for approvals, the longest first.

        A step of a page may wait for something else: which ones ask, their definitions say.
        """
        after = after or _FIRST
        wanted = {"definitions": list(definitions), "after_at": after.at, "after": after.id, "page": page}
        rows = await self._pool.fetch(_SQL["asked"], wanted)
        steps = tuple(
            WaitingStep(SagaId(saga_id), definition, version, position, since, until)
            for saga_id, definition, version, _, position, since, until in rows
            if position is not None
        )
        sagas = len({row[0] for row in rows})
        return AskedPage(steps, Place(rows[-1][3], SagaId(rows[-1][0])) if sagas == page else None)

    async def parked(self, definition: str) -> tuple[int, float]:
        """How many sagas are parked, and for how many seconds the first of them has been."""
        rows = await self._pool.fetch(_SQL["parked"], {"definition": definition})
        return int(rows[0][0]), float(rows[0][1])


def _json(value: Json | None) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
