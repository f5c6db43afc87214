"""Every metric of a replica, declared in one place, and the set-up of its log.

No label ever carries a saga id: the number of series stays bounded by definitions, steps and participants.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import orjson
import structlog
import structlog.tracebacks
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

_FAST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SLOW_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_GAP_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2, 5, 10, 30)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 8000)

LogFormat = Literal["console", "json"]
_WORD = re.compile(r"[\w.:+/-]+").fullmatch


class Metrics:
    """The metrics of one replica, in a registry of their own so that several replicas can live in one test."""

    def __init__(self, cluster: str, replica: str) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._definitions: set[str] = set()
        registry = self.registry
        self.info = Gauge(
            "baton_replica_info", "Always 1; says which replica this is.", ["cluster", "replica"], registry=registry
        )
        self.info.labels(cluster, replica).set(1)

        # Leadership.
        self.is_leader = Gauge("baton_is_leader", "1 while this replica leads its shard.", registry=registry)
        self.epoch = Gauge("baton_epoch", "The highest epoch that this replica has held or seen.", registry=registry)
        self.leadership_changes = Counter(
            "baton_leadership_changes", "Terms begun by this replica, by cause.", ["cause"], registry=registry
        )
        self.terms_ended = Counter(
            "baton_terms_ended", "Terms of this replica that ended, by reason.", ["reason"], registry=registry
        )
        self.lease_left_s = Gauge(
            "baton_lease_left_seconds", "Seconds until this replica's lease ends by its own clock.", registry=registry
        )
        self.lease_ttl_s = Gauge(
            "baton_lease_ttl_seconds", "Seconds for which this replica asks for its lease.", registry=registry
        )
        self.members = Gauge(
            "baton_members", "Replicas whose leases live, as far as this replica knows.", registry=registry
        )
        self.accusations = Counter(
            "baton_accusations", "Leaders that this replica found gone or frozen.", ["verdict"], registry=registry
        )
        self.failover_gap_s = Histogram(
            "baton_failover_gap_seconds",
            "From the last sign of the former leader to the first step that this leader drove.",
            buckets=_GAP_S,
            registry=registry,
        )
        self.recovery_s = Histogram(
            "baton_recovery_seconds",
            "From the new epoch to the end of the recovery scan.",
            buckets=_FAST_S,
            registry=registry,
        )
        self.recovered_sagas = Counter(
            "baton_recovered_sagas", "Unfinished sagas that a recovery scan took over.", registry=registry
        )

        # Sagas and steps.
        self.sagas_started = Counter(
            "baton_sagas_started", "Sagas stored by this replica's StartSaga.", ["definition"], registry=registry
        )
        self.sagas_finished = Counter(
            "baton_sagas_finished", "Sagas that reached a terminal state.", ["definition", "state"], registry=registry
        )
        self.sagas_in_flight = Gauge("baton_sagas_in_flight", "Sagas that this leader drives now.", registry=registry)
        self.calls_in_flight = Gauge(
            "baton_calls_in_flight", "Calls under way to a participant.", ["participant"], registry=registry
        )
        self.breaker_open = Gauge(
            "baton_breaker_open",
            "1 while a participant is not to be reached and its sagas are held.",
            ["participant"],
            registry=registry,
        )
        self.steps = Counter(
            "baton_steps",
            "Attempts of steps by outcome.",
            ["definition", "step", "kind", "outcome"],
            registry=registry,
        )
        self.step_s = Histogram(
            "baton_step_duration_seconds",
            "Time of one call to a participant.",
            ["definition", "step", "kind"],
            buckets=_FAST_S,
            registry=registry,
        )
        self.saga_s = Histogram(
            "baton_saga_duration_seconds",
            "From StartSaga to the terminal state.",
            ["definition", "state"],
            buckets=_SLOW_S,
            registry=registry,
        )

        self.intent_to_done_s = Histogram(
            "baton_intent_to_done_seconds",
            "From the intent of a step in the log to what became of it in the log: calls, retries and commits.",
            ["definition", "step", "kind"],
            buckets=_SLOW_S,
            registry=registry,
        )
        self.oldest_intent = Gauge(
            "baton_oldest_intent_timestamp_seconds",
            "Unix time of the oldest intent of this leader of which nothing has become yet; 0: there is none.",
            registry=registry,
        )
        self.oldest_saga = Gauge(
            "baton_oldest_saga_timestamp_seconds",
            "Start of the oldest saga that is not done and not paused by a person; PAUSED: paused one by one. 0: none.",
            ["state"],
            registry=registry,
        )

        self.starts_held = Gauge(
            "baton_starts_held",
            "1 while new starts of a definition are held because too many of its latest sagas were undone.",
            ["definition"],
            registry=registry,
        )

        self.pauses = Gauge(
            "baton_pauses",
            "Definitions, or participants, whose pauses this leader goes by; 0 at replicas that do not lead.",
            ["kind"],
            registry=registry,
        )

        # Participants.
        self.calls = Counter(
            "baton_calls", "Calls to a participant by gRPC status.", ["participant", "code"], registry=registry
        )
        self.call_s = Histogram(
            "baton_call_duration_seconds",
            "Time of one call to a participant, with the wait for one of the BATON_CALLS_MAX places.",
            ["participant"],
            buckets=_FAST_S,
            registry=registry,
        )

        # The log.
        self.log_batch_rows = Histogram(
            "baton_log_batch_transitions", "Transitions in one commit.", buckets=_ROWS, registry=registry
        )
        self.log_commit_s = Histogram(
            "baton_log_commit_seconds", "Time of one commit of the log's writer.", buckets=_FAST_S, registry=registry
        )
        self.log_queue = Gauge("baton_log_queue_depth", "Transitions that wait for the next commit.", registry=registry)
        self.log_retries = Counter(
            "baton_log_retries", "Commits repeated because their outcome was unknown.", registry=registry
        )
        self.fenced_writes = Counter(
            "baton_fenced_writes", "Writes refused because a later epoch holds the fence.", registry=registry
        )
        self.intake_batch_rows = Histogram(
            "baton_intake_batch_sagas", "Sagas in one commit of StartSaga.", buckets=_ROWS, registry=registry
        )
        self.intake_queue = Gauge(
            "baton_intake_queue_depth", "Starts that wait for the next commit.", registry=registry
        )
        self.pressure = Gauge(
            "baton_pressure", "1 while this cause keeps new sagas out of this replica.", ["cause"], registry=registry
        )
        self.starts_refused = Counter(
            "baton_starts_refused", "Calls that wanted to start sagas while none were taken.", registry=registry
        )
        self.pool_size = Gauge("baton_pool_connections", "Postgres connections of the pool.", registry=registry)
        self.pool_waiting = Gauge("baton_pool_waiting", "Requests that wait for a connection.", registry=registry)

        # Upkeep.
        self.sagas_removed = Counter(
            "baton_sagas_removed", "Finished sagas that this leader has removed from the log.", registry=registry
        )
        self.upkeep_failures = Counter(
            "baton_upkeep_failures", "Rounds of the leader's upkeep that failed, by duty.", ["duty"], registry=registry
        )
        self.watermark_s = Gauge(
            "baton_watermark_timestamp_seconds",
            "Sagas started before this time are kept no more, and participants may forget them; 0 until it is known.",
            registry=registry,
        )
        self.barrier_rows_purged = Counter(
            "baton_barrier_rows_purged",
            "Rows of barriers that participants have purged for this leader.",
            ["participant"],
            registry=registry,
        )

        # Events.
        self.event_streams = Gauge("baton_event_streams", "Callers that stream events now.", registry=registry)
        self.events_published = Counter(
            "baton_events_published", "Events that the broker has acknowledged to this replica.", registry=registry
        )
        self.events_publish_errors = Counter(
            "baton_events_publish_errors",
            "Attempts of the relay that failed, by what failed.",
            ["what"],
            registry=registry,
        )
        self.events_relay_lag_s = Gauge(
            "baton_events_relay_lag_seconds",
            "Age of the oldest event that the relay of this leader has not published; 0 when there is none.",
            registry=registry,
        )

        # Security.
        self.calls_refused = Counter(
            "baton_calls_refused", "Calls and requests refused at the door, by reason.", ["reason"], registry=registry
        )
        self.certificate_ends_s = Gauge(
            "baton_certificate_expiry_timestamp_seconds",
            "When this replica's certificate, or its authority's, ends, since 1970; 0 without one.",
            registry=registry,
        )

        # Traces.
        self.spans = Counter(
            "baton_spans", "Spans sent to the collector, refused by it or dropped.", ["outcome"], registry=registry
        )

        # The process.
        self.loop_lag_s = Histogram(
            "baton_loop_lag_seconds", "Lateness of the main loop's beat.", buckets=_FAST_S, registry=registry
        )
        self.tasks = Gauge("baton_tasks", "Tasks of the main loop, as counted at each scrape.", registry=registry)
        # Memory, open files and CPU time, under the names that every Prometheus client gives them.
        ProcessCollector(registry=registry)

    def starts_are_held(self, held: Collection[str]) -> None:
        """New starts of these definitions are held, and of no others."""
        self._definitions.update(held)
        for definition in self._definitions:
            self.starts_held.labels(definition).set(definition in held)

    def definition_known(self, definition: str) -> None:
        """Let the counters of a definition begin at 0: the first event of a series that is new is seen by no rate."""
        self.sagas_started.labels(definition)
        self._definitions.add(definition)
        for state in ("COMPLETED", "COMPENSATED", "FAILED"):
            self.sagas_finished.labels(definition, state)


def sagas_by_state(counts: dict[tuple[str, str], int]) -> GaugeMetricFamily:
    """The gauge of sagas by definition and state, made from what Postgres counted."""
    family = GaugeMetricFamily(
        "baton_sagas", "Sagas in the log by definition and state.", labels=["definition", "state"]
    )
    for (definition, state), count in sorted(counts.items()):
        family.add_metric([definition, state], count)
    return family


def failpoints_armed(count: int) -> GaugeMetricFamily:
    """The gauge of failpoints that are armed; only a replica that drills has it."""
    return GaugeMetricFamily("baton_failpoints_armed", "Failpoints that are armed: this is a drill.", value=count)


def failpoints_struck(counts: Mapping[str, int]) -> CounterMetricFamily:
    """The counter of strikes by failpoint; only a replica that drills has it."""
    family = CounterMetricFamily("baton_failpoint_strikes", "Strikes of a failpoint.", labels=["failpoint"])
    for failpoint, count in sorted(counts.items()):
        family.add_metric([failpoint], count)
    return family


class EventLines:
    """Writes events as `set_up_log` has them written, at a third of the cost: for what happens at every step.

    Events that are added together are written together.
    """

    def __init__(self, log_format: LogFormat, level: str, file: TextIO) -> None:
        self._json = log_format == "json"
        self._level = logging.getLevelNamesMapping()[level.upper()]
        self._file = file
        self._lines: list[str] = []

    def add(self, level: Literal["info", "warning"], event: str, fields: Mapping[str, Any]) -> None:
        """Add an event, unless its level is too low."""
        if self._level > (logging.INFO if level == "info" else logging.WARNING):
            return
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if self._json:
            line = orjson.dumps({**fields, "event": event, "level": level, "timestamp": at}, default=str).decode()
        else:
            pairs = " ".join(f"{name}={_readable(value)}" for name, value in fields.items())
            line = f"{at} [{level:<9}] {event:<30} {pairs}"
        self._lines.append(line)

    def flush(self) -> None:
        """Write what was added, in one go."""
        if self._lines:
            self._lines.append("")
            text = "\n".join(self._lines)
            self._lines.clear()
            self._file.write(text)
            self._file.flush()


def _readable(value: object) -> str:
    """A value in a readable line: bare if it is one word, so that no text can pass for another field or line."""
    text = value if isinstance(value, str) else str(value)
    return text if _WORD(text) else repr(text)


# Without the local variables of every frame, which structlog adds by default: they hold inputs, secrets and passwords.
_JSON_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def set_up_log(log_format: LogFormat, level: str) -> None:
    """Make structlog write one event a line to standard error, for people or for machines."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _JSON_TRACEBACKS if log_format == "json" else structlog.processors.ExceptionRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
