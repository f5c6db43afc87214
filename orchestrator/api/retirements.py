"""Refuses starts of definitions that are retired."""

from __future__ import annotations

from orchestrator.api.lately import Lately
from orchestrator.api.port import Definitions
from orchestrator.errors import WrongState
from orchestrator.sagalog.records import Retirement

# How long this replica takes the newest version of a definition for the newest one, and what it knows of retirements
# and of holds for true. Calls that change any of them are answered only after as long, so that no start that follows
# such an answer, on whatever replica, runs by what was before.
NEWEST_FRESH_S = 0.2


class Retirements:
    """What is retired, read from the log at most once in a while, however many ask."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._known = Lately(self._read, NEWEST_FRESH_S)

    async def check(self, name: str, version: int, request_id: str) -> None:
        """Raises WrongState when the version is retired, or all versions of the definition; and LogUnavailable.

        A request id that has started a saga before passes: it starts nothing.
        """
        known = await self._known.get()
        found = known.get((name, version)) or known.get((name, 0))
        if found is not None and not (request_id and await self._definitions.started(request_id)):
            which = f"version {version} of definition {name!r}" if found.version else f"definition {name!r}"
            raise WrongState(f"{which} was retired by {found.by}: {found.reason}; no new sagas of it are started")

    async def _read(self) -> dict[tuple[str, int], Retirement]:
        return {(found.name, found.version): found for found in await self._definitions.retirements()}
