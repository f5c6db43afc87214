"""Refuses starts of definitions that are retired."""

from __future__ import annotations

import asyncio
import time

from orchestrator.api.port import Definitions
from orchestrator.errors import BatonError, WrongState
from orchestrator.sagalog.records import Retirement

# How long this replica takes the newest version of a definition for the newest one, and what it knows of retirements
# for true. Calls that change either are answered only after as long, so that no start that follows such an answer, on
# whatever replica, runs by what was before.
NEWEST_FRESH_S = 0.2


class Retirements:
    """What is retired, read from the log at most once in a while, however many ask."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._known: dict[tuple[str, int], Retirement] = {}
        self._fresh_until_s = float("-inf")
        self._asking: asyncio.Future[BatonError | None] | None = None

    async def check(self, name: str, version: int, request_id: str) -> None:
        """Raises WrongState when the version is retired, or all versions of the definition; and LogUnavailable.

        A request id that has started a saga before passes: it starts nothing.
        """
        if time.monotonic() >= self._fresh_until_s:
            await self._refresh()
        found = self._known.get((name, version)) or self._known.get((name, 0))
        if found is not None and not (request_id and await self._definitions.started(request_id)):
            which = f"version {version} of definition {name!r}" if found.version else f"definition {name!r}"
            raise WrongState(f"{which} was retired by {found.by}: {found.reason}; no new sagas of it are started")

    async def _refresh(self) -> None:
        while time.monotonic() >= self._fresh_until_s:
            if self._asking is None:
                await self._ask()
                return
            # Somebody is asking already; whatever comes of it is the answer for all who wait.
            asking = self._asking
            await asyncio.wait((asking,))
            if not asking.cancelled() and (error := asking.result()) is not None:
                raise error

    async def _ask(self) -> None:
        asking = self._asking = asyncio.get_running_loop().create_future()
        asked_at_s = time.monotonic()
        try:
            self._known = {(found.name, found.version): found for found in await self._definitions.retirements()}
            self._fresh_until_s = asked_at_s + NEWEST_FRESH_S
            asking.set_result(None)
        except BatonError as error:
            asking.set_result(error)
            raise
        finally:
            # When this caller has gone away, the next one asks.
            asking.cancel()
            self._asking = None
