"""Whether a replica lives and whether it is ready, as /healthz and /readyz tell it.

A replica lives while its main loop beats; nothing outside is asked, since restarting a replica mends no store. It is
ready once its API serves, etcd has been reached, and Postgres answers. Followers are ready as much as the leader. That
etcd goes away later changes nothing: sagas are started, read and driven all the same. Without Postgres nothing works.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from orchestrator.errors import LogUnavailable, Overloaded

# A main loop that hangs for longer does not come back.
STALL_MAX_S = 15.0

_BEAT_S = 0.25
_PROBE_S = 1.0
_PROBE_TIMEOUT_S = 3.0

log = structlog.get_logger()


class Readiness:
    """Asked from any thread; `run` belongs to the main loop.

    `ping` returns when Postgres answers and raises LogUnavailable else; `etcd_trouble` says why etcd has not been
    reached yet, None when it has; `serving` whether the API serves.
    """

    def __init__(
        self,
        ping: Callable[[], Awaitable[None]],
        etcd_trouble: Callable[[], str | None],
        serving: Callable[[], bool],
    ) -> None:
        self._ping = ping
        self._etcd_trouble = etcd_trouble
        self._serving = serving
        self._beat_at_s = time.monotonic()
        self._postgres = "not asked yet"
        self._etcd_reached = False
        self._leaving = False
        # Replaced as a whole, so that other threads may read it at any time.
        self._waiting: tuple[str, ...] = ("starting",)

    def complaint(self) -> str | None:
        """What is wrong with the process; None while its main loop beats."""
        silent_s = time.monotonic() - self._beat_at_s
        return None if silent_s < STALL_MAX_S else f"the main loop has not run for {silent_s:.0f} s"

    def waiting_for(self) -> tuple[str, ...]:
        """What the replica waits for; nothing when it is ready."""
        return self._waiting

    def leave(self) -> None:
        """Say that this replica is not ready any more, at once and for good."""
        self._leaving = True
        self._waiting = ("replica: it shuts down",)

    async def run(self) -> None:
        """Beat, and look at what the replica needs, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._probe_postgres())
            while True:
                self._beat_at_s = time.monotonic()
                self._look()
                await asyncio.sleep(_BEAT_S)

    async def _probe_postgres(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_PROBE_TIMEOUT_S):
                    await self._ping()
                self._postgres = ""
            except TimeoutError:
                self._postgres = f"no answer within {_PROBE_TIMEOUT_S:g} s"
            except (LogUnavailable, Overloaded) as error:
                self._postgres = str(error)
            await asyncio.sleep(_PROBE_S)

    def _look(self) -> None:
        if self._leaving:
            return
        waiting = []
        if not self._serving():
            waiting.append("api: it does not serve")
        if self._postgres:
            waiting.append(f"postgres: {self._postgres}")
        if not self._etcd_reached:
            trouble = self._etcd_trouble()
            self._etcd_reached = trouble is None
            if trouble is not None:
                waiting.append(f"etcd: {trouble}")
        self._say(tuple(waiting))

    def _say(self, waiting: tuple[str, ...]) -> None:
        # The log hears of what is waited for, not of every change in the wording.
        before, after = ({entry.partition(":")[0] for entry in entries} for entries in (self._waiting, waiting))
        self._waiting = waiting
        if after and after != before:
            log.warning("replica_waits", waiting_for=list(waiting), reaction="asking again")
        elif before and not after:
            log.info("replica_ready")
