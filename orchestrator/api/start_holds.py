"""Refuses starts of definitions that are held."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from orchestrator.api.lately import Lately
from orchestrator.api.retirements import NEWEST_FRESH_S
from orchestrator.errors import StartsHeld
from orchestrator.sagalog.records import StartHold


class StartHolds(Protocol):
    """Where holds are kept. Both methods raise LogUnavailable, and Overloaded."""

    async def start_holds(self) -> list[StartHold]:
        """What is held now, by definition."""

    async def release(self, definition: str, by: str, reason: str) -> StartHold | None:
        """Let the starts of a definition through again; what held them, None when nothing did."""


class Gate:
    """What is held, read from the log at most once in a while."""

    def __init__(self, holds: StartHolds) -> None:
        self._known = Lately(holds.start_holds, NEWEST_FRESH_S)

    async def check(self, definition: str) -> None:
        """Raises StartsHeld when new starts of the definition are held, and LogUnavailable."""
        for hold in await self._known.get():
            if hold.definition == definition:
                left_s = max(0.1, (hold.until - datetime.now(UTC)).total_seconds())
                raise StartsHeld(_told(hold), left_s)


def _told(hold: StartHold) -> str:
    since, until = (at.astimezone(UTC).isoformat(timespec="seconds") for at in (hold.since, hold.until))
    return (
        f"new starts of {hold.definition!r} are held since {since}: {hold.turned_back} of its last {hold.of_last} "
        f"sagas were compensated or parked; they are let through again at {until}, or at once by an operator: "
        f"baton definition release {hold.definition} --reason ..."
    )
