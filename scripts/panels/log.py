"""The dashboard of the log: what the leader commits to the saga log, and what waits for it."""

from __future__ import annotations

from queries import C, Panel, R, mean, quantiles, rate

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
