"""What each part of a replica is told of the settings."""

from __future__ import annotations

import sys

from orchestrator.api.server import ApiSettings
from orchestrator.config import Settings
from orchestrator.driving.grpc_edge import CallSettings
from orchestrator.driving.term import LeaderSettings
from orchestrator.driving.transition_log import TransitionLog
from orchestrator.events.relay import RELAY_CONSUMER
from orchestrator.keeping.port import Keepers, NobodyKeeps
from orchestrator.sagalog.events import UnseenEvents
from orchestrator.sagalog.intake import IntakeSettings
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.postgres import LogSettings
from orchestrator.sagalog.upkeep import UpkeepLogSettings
from orchestrator.telemetry import EventLines


def transition_log(settings: Settings) -> TransitionLog | None:
    """The log of transitions, if it is wanted."""
    lines = EventLines(settings.log_format, settings.log_level, sys.stderr)
    return TransitionLog(lines, payloads=settings.log_payloads) if settings.log_transitions else None


def log_settings(settings: Settings) -> LogSettings:
    """What the saga log is told."""
    return LogSettings(
        dsn=settings.dsn,
        replica=settings.replica,
        shard=settings.shard,
        timeout_s=settings.log_timeout_s,
        fence_wait_max_s=settings.fence_wait_max_s,
        absence_max_s=settings.log_absence_max_s,
        batch_max=settings.log_batch_max,
    )


def keepers(settings: Settings, pool: Pool) -> Keepers:
    """Who has a say in which finished sagas stay: the relay, where there is one, until their events are published."""
    return UnseenEvents(pool, RELAY_CONSUMER) if settings.events_broker else NobodyKeeps()


def upkeep_log_settings(settings: Settings) -> UpkeepLogSettings:
    """What the log of the upkeep is told."""
    return UpkeepLogSettings(
        settings.dsn, settings.replica, settings.shard, settings.log_timeout_s, settings.fence_wait_max_s
    )


def intake_settings(settings: Settings) -> IntakeSettings:
    """What the intake is told."""
    return IntakeSettings(
        dsn=settings.dsn,
        replica=settings.replica,
        shard=settings.shard,
        timeout_s=settings.log_timeout_s,
        batch_max=settings.log_batch_max,
    )


def leader_settings(settings: Settings) -> LeaderSettings:
    """What the leader is told."""
    return LeaderSettings(settings.shard, settings.sagas_max, settings.recovery_page, settings.poll_interval_s)


def call_settings(settings: Settings) -> CallSettings:
    """What calls to participants are told."""
    return CallSettings(settings.calls_max, settings.message_bytes_max, settings.reply_bytes_max, settings.multiplexed)


def api_settings(settings: Settings) -> ApiSettings:
    """What the API is told."""
    return ApiSettings(
        cluster=settings.cluster,
        replica=settings.replica,
        listen=settings.api_listen,
        input_bytes_max=settings.input_bytes_max,
        message_bytes_max=settings.message_bytes_max,
        token_listen=settings.api_token_listen,
    )
