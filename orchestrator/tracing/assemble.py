"""Tracing as a replica uses it: one object, or none."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config import Settings
from orchestrator.driving.port import Participants
from orchestrator.errors import BatonError
from orchestrator.saga.events import Event
from orchestrator.saga.model import Saga
from orchestrator.telemetry import Metrics
from orchestrator.tracing.calls import TracedParticipants
from orchestrator.tracing.sagas import SagaSpans
from orchestrator.tracing.starts import TracedStarts

# What is left at the end of a replica is sent for so long.
GRACE_S = 1.0


class NoOpenTelemetry(BatonError):
    """BATON_TRACING_ENDPOINT is set, and OpenTelemetry is not installed: `pip install 'baton[tracing]'`."""


class Tracing:
    """The traces of one replica, on their way to a collector. Raises NoOpenTelemetry.

    Off, when no collector is named, it costs nothing: it makes nothing and hands everything on as it is.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._sagas: SagaSpans | None = None
        if not settings.tracing_endpoint:
            return
        try:
            # Here and not above: a replica that sends no traces runs without it.
            from orchestrator.tracing import export
        except ImportError as error:
            raise NoOpenTelemetry(f"{NoOpenTelemetry.__doc__} ({error})") from None
        self._export = export.Export(
            export.otlp(settings.tracing_endpoint),
            export.resource(settings.cluster, settings.replica),
            lambda outcome, count: metrics.spans.labels(outcome).inc(count),
        )
        self._sagas = SagaSpans(self._export.add, settings.tracing_sample)

    def around(self, participants: Participants) -> Participants:
        """The participants, with their calls traced."""
        return participants if self._sagas is None else TracedParticipants(participants, self._sagas, self._export.add)

    @property
    def interceptors(self) -> tuple[TracedStarts, ...]:
        """What the API's server needs."""
        return () if self._sagas is None else (TracedStarts(self._sagas, self._export.add),)

    def restored(self, saga: Saga) -> None:
        """See `SagaSpans.restored`."""
        if self._sagas is not None:
            self._sagas.restored(saga)

    def written(self, saga: Saga, events: Sequence[Event]) -> None:
        """See `SagaSpans.written`."""
        if self._sagas is not None:
            self._sagas.written(saga, events)

    def close(self, grace_s: float = GRACE_S) -> None:
        """Send what is left, for `grace_s` seconds at the most. It blocks: call it in a thread."""
        if self._sagas is not None:
            self._export.close(grace_s)
