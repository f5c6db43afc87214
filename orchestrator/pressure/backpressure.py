"""What a replica needs to decide whether it takes new sagas: the gauges, the limits of its settings, and the door."""

from __future__ import annotations

import asyncio

from orchestrator.config import Settings
from orchestrator.pressure.door import Door, Queue
from orchestrator.pressure.judge import Cause, Limits
from orchestrator.pressure.memory import limit_bytes
from orchestrator.sagalog.strain import Strain
from orchestrator.telemetry import Metrics


class Backpressure:
    """Ask `admit` for each start; `run` it once the schema is there."""

    def __init__(self, settings: Settings, queue: Queue, metrics: Metrics) -> None:
        count_max = settings.pending_max + 1
        self._strain = Strain(settings.dsn, settings.replica, settings.shard, settings.log_timeout_s, count_max)
        self._door = Door(limits_of(settings), self._strain, queue, metrics)

    def admit(self) -> None:
        """Return if new sagas are taken. Raises Overloaded, which says why not, and when to ask again."""
        self._door.admit()

    async def run(self) -> None:
        """Measure and decide until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._strain.run())
            group.create_task(self._door.run())


def limits_of(settings: Settings) -> Limits:
    """The limits of what is measured; what is set to 0 has none."""
    most = {
        Cause.BACKLOG: float(settings.pending_max),
        Cause.AGE: settings.pending_age_max_s,
        Cause.QUEUE: float(settings.intake_queue_max),
        Cause.COMMIT: settings.commit_max_s,
        Cause.POSTGRES: settings.write_absence_max_s,
        Cause.MEMORY: float(limit_bytes(settings.memory_bytes_max)),
    }
    # The disk's gauge is 1 while it is full, and 0 otherwise.
    return Limits({cause: limit for cause, limit in most.items() if limit} | {Cause.DISK: 0.5}, settings.reopen_share)
