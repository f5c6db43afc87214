"""What panels/ is written with: a panel, and the few forms of its queries: quantiles, means, rates, and ages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Which series: those of the cluster that was chosen. And over which time a rate is taken.
C = 'cluster=~"$cluster"'
R = "$__rate_interval"
# What says that a call's outcome is unknown, or that the participant could not do it now.
TROUBLE = ', code=~"UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|ABORTED|UNKNOWN|INTERNAL|CANCELLED"'
LIVE = ', state!~"FAILED|PAUSED"'
UNDONE = ', state=~"COMPENSATED|FAILED"'
# Names the replica whatever labels the targets have.
NAMED = "* on (job, instance) group_left (replica) baton_replica_info"


@dataclass(frozen=True)
class Panel:
    """One panel: `queries` are pairs of an expression and what its lines are called."""

    title: str
    about: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    more: dict[str, Any] = field(default_factory=dict)


def quantiles(metric: str, by: str, legend: str, over: str = R) -> tuple[tuple[str, str], ...]:
    """The median and the 99th percentile of a histogram, by labels."""
    group = f"{by}, le" if by else "le"
    ask = f"histogram_quantile({{q}}, sum by ({group}) (rate({metric}_bucket{{{{{C}}}}}[{over}])))"
    return tuple((ask.format(q=q), f"{name} {legend}".strip()) for q, name in ((0.5, "p50"), (0.99, "p99")))


def mean(metric: str, over: str = R) -> tuple[str, str]:
    """The mean of a histogram."""
    return f"sum(rate({metric}_sum{{{C}}}[{over}])) / sum(rate({metric}_count{{{C}}}[{over}]))", "mean"


def age(metric: str, by: str, more: str = "") -> str:
    """How long ago a timestamp was, and 0 where there is none."""
    newest = f"max by ({by}) ({metric}{{{C}{more}}})" if by else f"max({metric}{{{C}}})"
    return f"(time() - {newest}) * ({newest} > bool 0)"


def rate(metric: str, by: str, more: str = "") -> str:
    """Events a second, by labels."""
    return f"sum by ({by}) (rate({metric}{{{C}{more}}}[{R}]))" if by else f"sum(rate({metric}{{{C}{more}}}[{R}]))"
