"""The dashboard of leadership: who leads, how long the gaps were, and how the replicas are."""

from __future__ import annotations

from queries import NAMED, C, Panel, R

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
