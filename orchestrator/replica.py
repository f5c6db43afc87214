"""One replica: the composition root, and the only file that knows every edge.

A replica serves the API and all reads, campaigns for leadership, and drives sagas while it leads. What it needs from
outside may come and go: it waits for etcd and Postgres at the start, says so in its log and at /readyz, and goes on.
"""

from __future__ import annotations

import asyncio
import gc
import random
import signal
from collections.abc import Sequence
from functools import partial

import psycopg
import structlog

from orchestrator import slices
from orchestrator.api.server import ApiParts, ApiSecurity, ApiServer
from orchestrator.api.watcher import Watcher
from orchestrator.config import Settings
from orchestrator.dashboard.census import Census, Counts
from orchestrator.dashboard.http import HttpEndpoint
from orchestrator.dashboard.readiness import Readiness
from orchestrator.driving.folder import apply_folder
from orchestrator.driving.grpc_edge import GrpcParticipants
from orchestrator.driving.leader import Leader
from orchestrator.driving.outages import Outages
from orchestrator.driving.reflection import describe
from orchestrator.driving.registry import Registry
from orchestrator.driving.term import Clocks, Means
from orchestrator.driving.veil import Veils
from orchestrator.errors import LogUnavailable, NotFound, Rejected, Retryable
from orchestrator.events.assemble import relay_of
from orchestrator.events.streams import EventStreams
from orchestrator.failpoints.armed import arm_all
from orchestrator.leadership.assemble import Leadership
from orchestrator.leadership.verdict import Verdict
from orchestrator.leadership.victory import Cause, Ending, Hooks
from orchestrator.pressure.backpressure import Backpressure
from orchestrator.saga.events import Event
from orchestrator.saga.model import Saga
from orchestrator.sagalog import search
from orchestrator.sagalog.audit_log import AuditLog
from orchestrator.sagalog.certificates import PostgresCertificates
from orchestrator.sagalog.definitions import PostgresDefinitions
from orchestrator.sagalog.events import PostgresEvents
from orchestrator.sagalog.intake import Intake
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pauses import PostgresPauses
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.postgres import PostgresSagaLog
from orchestrator.sagalog.reader import Reader
from orchestrator.sagalog.signal_box import SignalBox
from orchestrator.sagalog.start_holds import PostgresStartHolds
from orchestrator.sagalog.term import boottime_s
from orchestrator.security.assemble import Security, links_in_clear
from orchestrator.telemetry import Metrics
from orchestrator.tracing.assemble import Tracing
from orchestrator.upkeep import upkeep_of

MIGRATE_AGAIN_S = 0.2
LOOK_AROUND_S = 2.0
AUDIT_GRACE_S = 1.0

# A leader keeps tens of thousands of objects alive and makes few cycles: the collector looks seldom at what is old. It
# looks often at what is young, since nothing else runs meanwhile: 50,000 objects take 0.1 s of a core, and a leader
# that has a sixth of a core then looks frozen to the standbys.
GC_THRESHOLDS = (2_000, 5, 500)

log = structlog.get_logger()


class Replica:
    """All parts of one replica. Make it on the event loop that it is to run on; `run` it once.

    Raises OSError, or an error that names the setting, when a port or a certificate cannot be had.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.failpoints:
            arm_all(settings.failpoints)
        self._settings = settings
        self._metrics = metrics = Metrics(settings.cluster, settings.replica)
        self._security = security = Security(settings, lambda reason: metrics.calls_refused.labels(reason).inc())
        metrics.certificate_ends_s.set_function(security.doors.expires_at_s)
        self._migrated = asyncio.Event()
        self._stopping = asyncio.Event()

        self._pool = Pool(
            settings.dsn, f"baton-pool-{settings.replica}", settings.log_pool_max, settings.log_timeout_s, metrics
        )
        self._searches = Pool(
            settings.dsn,
            f"baton-search-{settings.replica}",
            search.CONNECTIONS,
            settings.log_timeout_s,
            metrics,
            min(search.STATEMENT_MAX_S, settings.log_timeout_s / 2),
        )
        self._reader = Reader(self._pool, settings.shard, self._searches)
        self._definitions = PostgresDefinitions(self._pool)
        self._start_holds = PostgresStartHolds(self._pool, settings.shard)
        self._audit_log = AuditLog(self._pool, settings.replica)
        certificates = PostgresCertificates(self._pool)
        ask = partial(describe, dialer=security.participants)
        self._registry = Registry(self._definitions, ask, certificates.certificates)
        self._saga_log = PostgresSagaLog(slices.log_settings(settings), metrics)
        self._participants = GrpcParticipants(
            self._registry.codec, slices.call_settings(settings), metrics, security.participants
        )
        self._transition_log = slices.transition_log(settings)
        self._tracing = Tracing(settings, metrics)
        clocks = Clocks(boottime_s, random.random)
        self._watcher = Watcher(self._reader)
        self._events = PostgresEvents(self._pool, settings.shard, Veils(self._registry).event)
        self._streams = EventStreams(self._events, metrics)
        self._relay = relay_of(settings, self._events, metrics)
        outages = Outages(self._participants, boottime_s, random.random, metrics)
        upkeep = upkeep_of(settings, self._pool, self._definitions, self._registry, self._participants, metrics)
        means = Means(
            self._registry,
            self._tracing.around(outages),
            slices.leader_settings(settings),
            clocks,
            metrics,
            written=self._written,
            upkeep=upkeep.run,
            restored=self._tracing.restored,
            comes_back=outages.comes_back,
        )
        self._leader = Leader(self._saga_log, means)
        hooks = Hooks(term_began=self._term_began, term_ended=self._term_ended, accused=self._accused)
        self._leadership = Leadership(settings, self._leader.lead, self._may_campaign, hooks, self._beat, security)
        self._intake = Intake(slices.intake_settings(settings), metrics, started=self._leader.wake)
        self._backpressure = Backpressure(settings, self._intake, metrics)
        parts = ApiParts(
            self._registry,
            self._intake,
            self._reader,
            SignalBox(self._pool),
            self._definitions,
            self._leadership,
            self._watcher,
            certificates,
            self._events,
            self._streams,
            self._start_holds,
            PostgresPauses(self._pool, settings.shard),
            self._backpressure.admit,
        )
        self._api = ApiServer(
            slices.api_settings(settings),
            parts,
            ApiSecurity(security.doors, self._audit_log, security.replicas, self._tracing.interceptors),
        )
        self._readiness = Readiness(self._ping, lambda: self._leadership.etcd_trouble, lambda: self._api.serving)
        self._census = Census(self._count)
        self._http = HttpEndpoint(
            settings.http_listen,
            metrics,
            lambda: self._readiness.complaint() or self._leadership.complaint(),
            self._readiness.waiting_for,
            self._census.latest,
            leading=lambda: self._leadership.view.leading,
            drills=bool(settings.failpoints),
            doors=security.doors,
            record=self._audit_log.record,
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; refuse what is new then, hand leadership over, finish what is old, and return.

        SIGUSR1 comes before them where callers need time to go elsewhere: leadership is handed over, and not won again,
        while everything else is served on.

        The API's port is open still, and sends callers to other replicas: end the process.
        """
        settings = self._settings
        loop = asyncio.get_running_loop()
        for counter, labels in (
            (self._metrics.leadership_changes, Cause),
            (self._metrics.terms_ended, Ending),
            (self._metrics.accusations, Verdict),
        ):
            # Known from the start, so that a rate sees the first of each.
            for label in labels:
                counter.labels(label.value)
        self._metrics.lease_ttl_s.set(settings.lease_ttl_s)
        # Computed at the scrape: it runs out while the main loop hangs as well.
        self._metrics.lease_left_s.set_function(lambda: self._leadership.view.lease_left_s)
        self._metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, self._leadership.withdraw, "this replica is about to end (SIGUSR1)")
        self._http.start()
        try:
            await self._api.start()
            if clear := links_in_clear(settings):
                log.warning("links_in_clear", links=clear, reaction="going on; docs/security.md says what to set")
            log.info("replica_started", replica=settings.replica, api=settings.api_listen, http=settings.http_listen)
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            async with asyncio.TaskGroup() as group:
                parts = [
                    group.create_task(part)
                    for part in (
                        self._readiness.run(),
                        self._census.run(),
                        self._intake.run(),
                        self._watcher.run(),
                        self._measure(),
                        self._streams.run(),
                        self._audit_log.run(),
                        self._prepare(),
                    )
                ]
                if self._relay is not None:
                    parts.append(group.create_task(self._relay.run(self._leader.vouched)))
                group.create_task(self._leadership.run())
                await self._stopping.wait()
                log.info("replica_stops", replica=settings.replica)
                # Nothing new comes in from here on, and callers go to other replicas, at once.
                self._readiness.leave()
                self._api.refuse()
                # Leadership first: another replica drives on while this one finishes what its callers wait for.
                await self._leadership.close()
                await self._api.drain(settings.stop_grace_s)
                for part in parts:
                    part.cancel()
        finally:
            await self._participants.close()
            await self._saga_log.close()
            await self._audit_log.flush(AUDIT_GRACE_S)
            await asyncio.to_thread(self._tracing.close)
            await self._pool.close()
            await self._searches.close()
            self._http.close()
        log.info("replica_stopped", replica=settings.replica)

    async def _prepare(self) -> None:
        """Migrate the saga log, apply the definitions of the folder, then keep what a term needs warm."""
        await self._migrate()
        async with asyncio.TaskGroup() as group:
            if self._settings.definitions_dir is not None:
                group.create_task(apply_folder(self._settings.definitions_dir, self._registry))
            group.create_task(self._look_around())

    async def _measure(self) -> None:
        """See what new sagas would meet, from when there is a schema."""
        await self._migrated.wait()
        await self._backpressure.run()

    async def _migrate(self) -> None:
        said = ""
        while not self._migrated.is_set():
            try:
                for migration in await asyncio.to_thread(migrate, self._settings.dsn):
                    log.info("migrated", number=migration.number, name=migration.name)
                self._migrated.set()
            except psycopg.Error as error:
                if str(error) != said:
                    said = str(error)
                    away = isinstance(error, psycopg.OperationalError)
                    log.warning("waiting_for_postgres" if away else "cannot_migrate", error=said.strip())
                await asyncio.sleep(MIGRATE_AGAIN_S)

    async def _look_around(self) -> None:
        """Compile the newest definitions and connect to their participants ahead of a term; see who leads."""
        seen: set[tuple[str, int]] = set()
        while True:
            try:
                for listed in await self._definitions.list_definitions():
                    if (listed.name, listed.version) not in seen:
                        seen.add((listed.name, listed.version))
                        self._metrics.definition_known(listed.name)
                        await self._registry.get(listed.name, listed.version)
                fence = await self._reader.fence()
                if fence is not None:
                    self._metrics.epoch.set(fence.epoch)
            except Retryable:
                # /readyz says so already; what is known stays good.
                pass
            except (NotFound, Rejected) as error:
                log.error("definition_unusable", error=str(error))
            self._participants.warm(self._registry.services())
            await asyncio.sleep(LOOK_AROUND_S)

    async def _may_campaign(self) -> bool:
        """Whether this replica could lead now: the schema is there, and Postgres takes writes."""
        return self._migrated.is_set() and await self._saga_log.reachable()

    async def _count(self) -> Counts:
        for state, started_at in (await self._reader.oldest()).items():
            self._metrics.oldest_saga.labels(state).set(started_at)
        held = {hold.definition for hold in await self._start_holds.start_holds()}
        self._metrics.starts_are_held(held)
        return await self._reader.counts()

    async def _ping(self) -> None:
        if not self._migrated.is_set():
            raise LogUnavailable("not reached yet, or not migrated")
        await self._reader.ping()

    def _written(self, saga: Saga, events: Sequence[Event]) -> None:
        self._watcher.nudge(saga.id)
        self._streams.nudge()
        if self._relay is not None:
            self._relay.nudge()
        if self._transition_log is not None:
            self._transition_log(saga, events)
        self._tracing.written(saga, events)

    def _beat(self, lag_s: float) -> None:
        self._metrics.loop_lag_s.observe(lag_s)
        self._metrics.members.set(len(self._leadership.members()))

    def _term_began(self, cause: Cause) -> None:
        self._metrics.is_leader.set(1)
        self._metrics.leadership_changes.labels(cause.value).inc()

    def _term_ended(self, ending: Ending) -> None:
        self._metrics.is_leader.set(0)
        self._metrics.terms_ended.labels(ending.value).inc()

    def _accused(self, verdict: str) -> None:
        self._metrics.accusations.labels(verdict).inc()
