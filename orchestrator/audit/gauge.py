"""Looks at the saga log while the cluster works: the picture of the moment, and how long a gap was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import psycopg

from orchestrator.audit.ledgers import query
from orchestrator.errors import InvariantError, LogUnavailable

_CONNECT_TIMEOUT_S = 10
_ASK_INTERVAL_S = 0.05

_LIVE = ("PENDING", "RUNNING", "COMPENSATING")


@dataclass(frozen=True, slots=True)
class Picture:
    """What the log says at one moment: sagas by state, the epoch, and who raised it."""

    states: Mapping[str, int] = field(default_factory=dict)
    epoch: int = 0
    holder: str = ""

    @property
    def unfinished(self) -> int:
        """Sagas that are not terminal."""
        return sum(self.states.get(state, 0) for state in _LIVE)


class Gauge:
    """A connection of its own to the saga log at `dsn`; an async context manager. Raises LogUnavailable."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._asking = asyncio.Lock()

    async def picture(self) -> Picture:
        """The picture of the moment."""
        epoch, holder = await self.fence()
        return Picture(dict(await self._rows("census")), epoch, holder)

    async def fence(self) -> tuple[int, str]:
        """The epoch that holds the fence, and who raised it; 0 and nobody before the first."""
        found = await self._rows("fence")
        return found[0] if found else (0, "")

    async def definitions(self) -> int:
        """How many definitions there are, whatever their versions."""
        count: int = (await self._rows("definition_names"))[0][0]
        return count

    async def beginning(self) -> tuple[datetime, int]:
        """The database's time now, and how many sagas there are from before."""
        now, count = (await self._rows("clock"))[0]
        return now, count

    async def clock(self) -> datetime:
        """The database's time now."""
        found: datetime = (await self._rows("now"))[0][0]
        return found

    async def gap_s(self, since: datetime, epoch: int, timeout_s: float) -> float | None:
        """Seconds from `since` to the first outcome of a step under a later epoch; None if there is none in time.

        When no saga was left to drive, the gap ends with the raise of the later epoch.
        """
        give_up_at_s = time.monotonic() + timeout_s
        while time.monotonic() < give_up_at_s:
            ends: datetime | None = (await self._rows("first_outcome", {"epoch": epoch, "since": since}))[0][0]
            if ends is None and (picture := await self.picture()).epoch > epoch and not picture.unfinished:
                ends = (await self._rows("next_term", {"epoch": epoch}))[0][0]
            if ends is not None:
                return max(0.0, (ends - since).total_seconds())
            await asyncio.sleep(_ASK_INTERVAL_S)
        return None

    async def silence_s(self, since: datetime, until: datetime) -> float:
        """The longest time in seconds, between two moments, in which no transition was written."""
        longest: timedelta = (await self._rows("longest_silence", {"since": since, "until": until}))[0][0]
        return longest.total_seconds()

    async def ended(self, since: datetime, bucket_s: float) -> list[tuple[int, str, int]]:
        """How many sagas ended since then: the number of the bucket of `bucket_s` seconds, the state, the count."""
        rows = await self._rows("ended", {"since": since, "bucket_s": bucket_s})
        return [(bucket, state, count) for bucket, state, count in rows]

    async def epochs(self, since: datetime) -> list[tuple[int, str, str, datetime]]:
        """The epochs raised since then, and the one before: epoch, holder, cause, when."""
        rows = await self._rows("epochs_since", {"since": since})
        return [(epoch, holder, cause, raised_at) for epoch, holder, cause, raised_at in rows]

    async def all_ended(self, timeout_s: float) -> bool:
        """Wait until every saga is terminal; whether that was in time."""
        give_up_at_s = time.monotonic() + timeout_s
        while (await self.picture()).unfinished:
            if time.monotonic() > give_up_at_s:
                return False
            await asyncio.sleep(_ASK_INTERVAL_S)
        return True

    async def __aenter__(self) -> Self:
        self._connection = await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        try:
            return await psycopg.AsyncConnection.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=_CONNECT_TIMEOUT_S,
                application_name="baton-gauge",
                options="-c statement_timeout=10000",
            )
        except psycopg.OperationalError as error:
            raise LogUnavailable(f"the saga log does not answer: {error}") from error

    async def _rows(self, name: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query; after an outage of the log, on a new connection."""
        if self._connection is None:
            raise InvariantError("the gauge is asked before it was entered")
        async with self._asking:
            for left in (1, 0):
                if self._connection.closed:
                    self._connection = await self._connect()
                try:
                    cursor = await self._connection.execute(query(name), parameters)
                    if self._connection.pgconn.parameter_status(b"default_transaction_read_only") != b"on":
                        return await cursor.fetchall()
                    # Another server takes the writes now, and this one knows nothing of them.
                    reason = "it has turned read-only"
                except psycopg.OperationalError as error:
                    # The first time, it may be the word of an outage that is over.
                    reason = str(error)
                await self._connection.close()
                if not left:
                    raise LogUnavailable(f"the saga log does not answer: {reason}")
        raise InvariantError("a loop with an end went on")


def now() -> datetime:
    """The wall clock, which the database on this machine has as well."""
    return datetime.now(UTC)
