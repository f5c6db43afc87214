"""Makes the relay that the settings ask for, if they ask for one."""

from __future__ import annotations

from orchestrator.config import Settings
from orchestrator.errors import BatonError
from orchestrator.events.cloudevent import source_of
from orchestrator.events.port import EventLog
from orchestrator.events.relay import Relay
from orchestrator.telemetry import Metrics


class NoBrokerClient(BatonError):
    """BATON_EVENTS_BROKER is set, and the client of NATS is not installed: `pip install 'baton[nats]'`."""


def relay_of(settings: Settings, events: EventLog, metrics: Metrics) -> Relay | None:
    """The relay, or None when no broker is named. Raises NoBrokerClient."""
    if not settings.events_broker:
        return None
    try:
        # Here alone, so that a replica without a broker needs no client of one.
        from orchestrator.events.jetstream import JetStreamSettings, JetStreamSink
    except ImportError as error:
        raise NoBrokerClient(f"BATON_EVENTS_BROKER is set, and there is no client for it ({error})") from error
    servers = tuple(url.strip() for url in settings.events_broker.split(",") if url.strip())
    sink = JetStreamSink(
        JetStreamSettings(
            servers=servers,
            stream=settings.events_stream,
            subject=settings.events_subject,
            source=source_of(settings.cluster),
            ca_file=settings.events_ca_file,
            payloads=settings.events_payloads,
            timeout_s=settings.events_timeout_s,
        )
    )
    return Relay(events, sink, metrics, settings.events_page, payloads=settings.events_payloads)
