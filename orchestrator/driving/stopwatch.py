"""Times the steps of a leader from their intent in the log to what became of them in the log.

A step that a former leader intended is timed from this leader's own intent of it, and one whose saga slept meanwhile
from the first intent after that. What a step waits for by its nature, an answer or a time, is not timed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Set

from prometheus_client import Histogram

from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Kind, Saga
from orchestrator.telemetry import Metrics


class Stopwatch:
    """What is intended and not done yet, for one term. `clock` reads Unix time in seconds."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._clock = clock
        # By saga and position, and in the order of the intents: the first is the oldest. (A plain dict finds its first
        # entry slowly when many before it were deleted.)
        self._intents: OrderedDict[tuple[int, int], float] = OrderedDict()
        self._oldest = 0.0
        self._series: dict[tuple[str, str, str], Histogram] = {}

    def logged(self, saga: Saga, events: Iterable[Event]) -> None:
        """Take note of events that are in the log now; `saga` is the one that they led to."""
        # The number of the id: a UUID hashes and compares at three times the cost.
        now, number = self._clock(), saga.id.int
        for event in events:
            here = (number, event.position)
            match event.status:
                case Status.EXECUTING | Status.COMPENSATING:
                    # A retry goes on with the time of its first attempt.
                    self._intents.setdefault(here, now)
                case (
                    Status.COMPLETED | Status.FAILED | Status.UNKNOWN | Status.COMPENSATED | Status.COMPENSATION_FAILED
                ):
                    intended = self._intents.pop(here, None)
                    if intended is not None:
                        self._histogram(saga, event).observe(max(0.0, now - intended))
                case (
                    Status.RETRYING
                    | Status.REFUSED
                    | Status.HELD
                    | Status.QUERYING
                    | Status.ABSENT
                    | Status.COMPENSATION_RETRYING
                    | Status.COMPENSATION_HELD
                ):
                    pass
                case Status.WAITING | Status.COMPENSATION_WAITING | Status.SKIPPED | Status.RESOLVED | Status.FORCED:
                    # What then becomes of the step is a matter of others, or of a time.
                    self._intents.pop(here, None)
                case (
                    Status.CANCELLED
                    | Status.EXPIRED
                    | Status.UNDONE
                    | Status.PARKED
                    | Status.PAUSED
                    | Status.RESUMED
                    | Status.RETRIED
                    | Status.MOVED
                ):
                    self._drop(saga, {cursor.position for cursor in saga.open})
        self._show_oldest()

    def forget(self, saga: Saga) -> None:
        """The saga is not driven any more: it has ended, or sleeps, or its leader has been overtaken."""
        self._drop(saga, frozenset())
        self._show_oldest()

    def _drop(self, saga: Saga, still_open: Set[int]) -> None:
        for position in range(1, len(saga.definition.steps) + 1):
            if position not in still_open:
                self._intents.pop((saga.id.int, position), None)

    def _show_oldest(self) -> None:
        oldest = next(iter(self._intents.values()), 0.0)
        if oldest != self._oldest:
            self._oldest = oldest
            self._metrics.oldest_intent.set(oldest)

    def _histogram(self, saga: Saga, event: Event) -> Histogram:
        compensation = event.status in (Status.COMPENSATED, Status.COMPENSATION_FAILED)
        kind = Kind.COMPENSATION if compensation else Kind.ACTION
        key = (saga.definition.name, saga.definition.step(event.position).name, kind.value)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._metrics.intent_to_done_s.labels(*key)
        return series
