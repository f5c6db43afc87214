"""What the Grafana dashboards show: their panels, and the queries behind them. dashboards.py makes JSON of them."""

from __future__ import annotations

from queries import LIVE, NAMED, TROUBLE, UNDONE, C, Panel, R, age, mean, quantiles, rate

LEADERSHIP = (
    Panel(
        "Leader",
        "The replica that leads.",
        ((f"max by (replica) (baton_is_leader{{{C}}} {NAMED}) == 1", "{{replica}}"),),
        kind="stat",
        width=6,
        more={"textMode": "name", "instant": True},
    ),
    Panel("Epoch", "Raised by every new leader; it may jump.", ((f"max(baton_epoch{{{C}}})", ""),), "none", "stat", 6),
    Panel(
        "Replicas in the cluster",
        "Replicas whose leases live in etcd.",
        ((f"max(baton_members{{{C}}})", ""),),
        kind="stat",
        width=6,
    ),
    Panel(
        "Replicas that answer",
        "Replicas that Prometheus reaches.",
        ((f"count(baton_is_leader{{{C}}})", ""),),
        kind="stat",
        width=6,
    ),
    Panel(
        "Who leads",
        "1 while a replica leads.",
        ((f"max by (replica) (baton_is_leader{{{C}}} {NAMED})", "{{replica}}"),),
        kind="state-timeline",
        width=24,
        more={"words": (("stands by", "blue"), ("leads", "green"))},
    ),
    Panel(
        "Epochs",
        "The highest epoch that each replica has held or seen.",
        ((f"max by (replica) (baton_epoch{{{C}}} {NAMED})", "{{replica}}"),),
        "none",
        more={"from": None},
    ),
    Panel(
        "Changes of leadership",
        "Terms begun, by cause, and ended, by reason.",
        (
            (f"sum by (cause) (increase(baton_leadership_changes_total{{{C}}}[{R}]))", "begun: {{cause}}"),
            (f"sum by (reason) (increase(baton_terms_ended_total{{{C}}}[{R}]))", "ended: {{reason}}"),
        ),
    ),
    Panel(
        "Gaps of an hour",
        "From the last sign of the former leader to the first step of the next; and the recovery scan.",
        (
            (
                f"histogram_quantile(1, sum by (le) (increase(baton_failover_gap_seconds_bucket{{{C}}}[1h])))",
                "longest gap",
            ),
            (
                f"histogram_quantile(0.5, sum by (le) (increase(baton_failover_gap_seconds_bucket{{{C}}}[1h])))",
                "median gap",
            ),
            (
                f"histogram_quantile(1, sum by (le) (increase(baton_recovery_seconds_bucket{{{C}}}[1h])))",
                "longest recovery",
            ),
        ),
        "s",
    ),
    Panel(
        "Lease left",
        "Renewed several times before it ends; the leader's is what counts.",
        (
            (f"max by (replica) (baton_lease_left_seconds{{{C}}} {NAMED})", "{{replica}}"),
            (f"max(baton_lease_ttl_seconds{{{C}}})", "asked for"),
        ),
        "s",
    ),
    Panel(
        "Leaders found gone or frozen",
        "By the standbys, before the lease ended.",
        ((f"sum by (verdict) (increase(baton_accusations_total{{{C}}}[{R}]))", "{{verdict}}"),),
    ),
    Panel(
        "Sagas taken over",
        "Unfinished sagas that a recovery scan took up.",
        ((f"sum(increase(baton_recovered_sagas_total{{{C}}}[{R}]))", "sagas"),),
    ),
    Panel(
        "Lateness of the main loop",
        "A loop that is late for as long as a lease loses it.",
        (
            (
                f"histogram_quantile(0.99, sum by (instance, le) (rate(baton_loop_lag_seconds_bucket{{{C}}}[{R}])))",
                "p99 {{instance}}",
            ),
        ),
        "s",
    ),
    Panel(
        "Memory and tasks",
        "Of each replica's process.",
        (
            (f'process_resident_memory_bytes{{{C}, job="baton"}}', "memory {{instance}}"),
            (f"baton_tasks{{{C}}}", "tasks {{instance}}"),
        ),
        more={"right": ("/^memory/", "bytes")},
    ),
)

SAGAS = (
    Panel(
        "Not finished",
        "Pending, running and compensating sagas.",
        (
            (
                "sum(max by (definition, state) (baton_sagas"
                f'{{{C}, state=~"PENDING|RUNNING|COMPENSATING"}})) or vector(0)',
                "",
            ),
        ),
        kind="stat",
        width=6,
    ),
    Panel(
        "Parked",
        "They wait for a person.",
        ((f'sum(max by (definition, state) (baton_sagas{{{C}, state="FAILED"}})) or vector(0)', ""),),
        kind="stat",
        width=6,
        more={"red_from": 1},
    ),
    Panel(
        "Age of the oldest",
        "Of the sagas that are not finished.",
        ((f"max({age('baton_oldest_saga_timestamp_seconds', 'state', LIVE)})", ""),),
        "s",
        "stat",
        6,
    ),
    Panel(
        "Finished",
        "Sagas a second that reached an end.",
        ((rate("baton_sagas_finished_total", ""), ""),),
        "ops",
        "stat",
        6,
    ),
    Panel(
        "Started",
        "Sagas a second stored by StartSaga.",
        ((rate("baton_sagas_started_total", "definition"), "{{definition}}"),),
        "ops",
    ),
    Panel(
        "Ended",
        "Sagas a second, by how they ended.",
        ((rate("baton_sagas_finished_total", "definition, state"), "{{definition}} {{state}}"),),
        "ops",
    ),
    Panel(
        "States",
        "Sagas in the log; of very many finished ones the number is an estimate.",
        ((f"sum by (state) (max by (definition, state) (baton_sagas{{{C}}}))", "{{state}}"),),
    ),
    Panel(
        "Share that is undone",
        "Of the sagas that ended: compensated or parked.",
        (
            (
                f"{rate('baton_sagas_finished_total', 'definition', UNDONE)}"
                f" / {rate('baton_sagas_finished_total', 'definition')}",
                "{{definition}}",
            ),
        ),
        "percentunit",
    ),
    Panel(
        "Duration",
        "From StartSaga to the end.",
        quantiles("baton_saga_duration_seconds", "definition", "{{definition}}"),
        "s",
    ),
    Panel(
        "Age of the oldest, by state",
        "Since its start; of FAILED ones, which are parked, too.",
        ((age("baton_oldest_saga_timestamp_seconds", "state"), "{{state}}"),),
        "s",
    ),
    Panel(
        "From intent to done",
        "A step in the log: its calls, waits, retries and commits.",
        quantiles("baton_intent_to_done_seconds", "definition, step, kind", "{{definition}} {{step}} {{kind}}"),
        "s",
    ),
    Panel(
        "Oldest intent that is not done",
        "Of the leader; 0 when nothing is under way.",
        ((age("baton_oldest_intent_timestamp_seconds", ""), "age"),),
        "s",
    ),
    Panel(
        "Driven now",
        "Sagas in the leader's hands; starts that wait for a commit.",
        (
            (f"max(baton_sagas_in_flight{{{C}}})", "in flight"),
            (f"sum(baton_intake_queue_depth{{{C}}})", "starts that wait"),
        ),
    ),
    Panel(
        "Parked, by definition",
        "They wait for a person.",
        ((f'max by (definition) (baton_sagas{{{C}, state="FAILED"}}) or vector(0)', "{{definition}}"),),
    ),
)

PARTICIPANTS = (
    Panel(
        "Latency",
        "Of one call, with the wait for a place among the calls under way.",
        quantiles("baton_call_duration_seconds", "participant", "{{participant}}"),
        "s",
    ),
    Panel(
        "Calls",
        "A second, by gRPC status.",
        ((rate("baton_calls_total", "participant, code"), "{{participant}} {{code}}"),),
        "ops",
    ),
    Panel(
        "Errors",
        "Share of calls that a participant could not do, or of which nobody knows; a refusal is no error.",
        (
            (
                f"({rate('baton_calls_total', 'participant', TROUBLE)}"
                f" or {rate('baton_calls_total', 'participant')} * 0)"
                f" / {rate('baton_calls_total', 'participant')}",
                "{{participant}}",
            ),
        ),
        "percentunit",
    ),
    Panel(
        "Breaker",
        "1 while no calls go to a participant because it is away.",
        ((f"max by (participant) (baton_breaker_open{{{C}}})", "{{participant}}"),),
        kind="state-timeline",
        more={"words": (("closed", "green"), ("open", "red"))},
    ),
    Panel(
        "Paused",
        "Definitions and participants that operators have paused: their sagas wait.",
        ((f"max by (kind) (baton_pauses{{{C}}})", "{{kind}}"),),
    ),
    Panel(
        "Calls under way",
        "BATON_CALLS_MAX is the most for each participant.",
        ((f"sum by (participant) (baton_calls_in_flight{{{C}}})", "{{participant}}"),),
    ),
    Panel(
        "Attempts",
        "A second, by step and outcome.",
        ((rate("baton_steps_total", "step, kind, outcome"), "{{step}} {{kind}} {{outcome}}"),),
        "ops",
    ),
    Panel(
        "Latency by step",
        "Of one attempt.",
        quantiles("baton_step_duration_seconds", "definition, step, kind", "{{definition}} {{step}} {{kind}}"),
        "s",
        width=24,
    ),
)

LOG = (
    Panel(
        "Fenced writes of an hour",
        "Writes that Postgres refused because a later epoch holds the fence. A few after a failover are normal.",
        ((f"sum(increase(baton_fenced_writes_total{{{C}}}[1h]))", ""),),
        kind="stat",
        width=8,
    ),
    Panel(
        "Commits repeated in an hour",
        "Because their outcome was unknown.",
        ((f"sum(increase(baton_log_retries_total{{{C}}}[1h]))", ""),),
        kind="stat",
        width=8,
    ),
    Panel(
        "Transitions",
        "A second.",
        ((rate("baton_log_batch_transitions_sum", ""), ""),),
        "ops",
        "stat",
        8,
    ),
    Panel(
        "Batch size",
        "Transitions in one commit.",
        (*quantiles("baton_log_batch_transitions", "", ""), mean("baton_log_batch_transitions")),
    ),
    Panel(
        "Commit time",
        "Of the leader's writer.",
        (*quantiles("baton_log_commit_seconds", "", ""), mean("baton_log_commit_seconds")),
        "s",
    ),
    Panel(
        "Commits and transitions",
        "A second.",
        (
            (rate("baton_log_commit_seconds_count", ""), "commits"),
            (rate("baton_log_batch_transitions_sum", ""), "transitions"),
        ),
        "ops",
    ),
    Panel(
        "Queues",
        "What waits for the next commit.",
        (
            (f"sum(baton_log_queue_depth{{{C}}})", "transitions"),
            (f"sum(baton_intake_queue_depth{{{C}}})", "starts"),
        ),
    ),
    Panel(
        "Starts in one commit",
        "Sagas that share a commit of StartSaga.",
        (*quantiles("baton_intake_batch_sagas", "", ""), mean("baton_intake_batch_sagas")),
    ),
    Panel(
        "Fenced writes and repeated commits",
        "By replica.",
        (
            (f"sum by (instance) (increase(baton_fenced_writes_total{{{C}}}[{R}]))", "fenced {{instance}}"),
            (f"sum by (instance) (increase(baton_log_retries_total{{{C}}}[{R}]))", "repeated {{instance}}"),
        ),
    ),
    Panel(
        "Connections for reads and starts",
        "Open, and requests that wait for one.",
        (
            (f"sum by (instance) (baton_pool_connections{{{C}}})", "open {{instance}}"),
            (f"sum by (instance) (baton_pool_waiting{{{C}}})", "waiting {{instance}}"),
        ),
    ),
    Panel(
        "Upkeep that failed",
        "Rounds of what the leader does beside driving sagas, by duty. BatonUpkeepFails calls when one goes on.",
        ((f"sum by (duty) (increase(baton_upkeep_failures_total{{{C}}}[{R}]))", "{{duty}}"),),
    ),
)
