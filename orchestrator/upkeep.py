"""Makes what a leader does beside driving sagas, as the settings ask for it."""

from __future__ import annotations

from orchestrator import slices
from orchestrator.config import Settings
from orchestrator.driving.grpc_edge import GrpcParticipants
from orchestrator.driving.registry import Registry
from orchestrator.keeping.archive import Archive
from orchestrator.keeping.forgetting import Forgetting
from orchestrator.keeping.holding import Holding
from orchestrator.keeping.retention import Retention, RetentionSettings
from orchestrator.keeping.upkeep import Upkeep
from orchestrator.saga.definition import Definition
from orchestrator.sagalog.definitions import PostgresDefinitions
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.upkeep import PostgresUpkeepLog
from orchestrator.telemetry import Metrics


def upkeep_of(
    settings: Settings,
    pool: Pool,
    definitions: PostgresDefinitions,
    registry: Registry,
    participants: GrpcParticipants,
    metrics: Metrics,
) -> Upkeep:
    """The upkeep; some of it only where sagas may go."""

    async def definition(name: str, version: int) -> Definition:
        return (await registry.get(name, version)).definition

    upkeep_log = PostgresUpkeepLog(slices.upkeep_log_settings(settings), pool)
    holding = Holding(upkeep_log, definitions.list_definitions, definition)
    if not settings.retention_after_s:
        return Upkeep(upkeep_log, None, None, settings.retention_interval_s, metrics, holding)
    archive = None
    if settings.retention_mode == "archive" and settings.retention_dir is not None:
        archive = Archive(settings.retention_dir, f"{settings.cluster}-{settings.shard}-{settings.replica}")
    bounds = RetentionSettings(settings.retention_after_s, settings.retention_batch)
    retention = Retention(bounds, upkeep_log, archive, slices.keepers(settings, pool), metrics)
    services, margin_s = registry.services, settings.retention_margin_s
    forgetting = Forgetting(upkeep_log, participants, services, settings.shard, margin_s, metrics)
    return Upkeep(upkeep_log, retention, forgetting, settings.retention_interval_s, metrics, holding)
