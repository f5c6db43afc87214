"""Does what is measured over hours stay flat? A pure judgement of samples, made for a soak.

Of each number the median of an early part of the run is compared with the median of its last part. Medians, since a
restart or a burst is no leak; parts of the run, since what a process takes in its first minute is no leak either.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.drill.vitals import Vitals

# A fresh process fills its pools and caches first.
WARM_S = 30.0
# The early part begins after this share of the run, and each of the two parts is this long.
_WARM_SHARE = 0.1
_PART_SHARE = 0.3
# Fewer samples in a part say nothing.
_SAMPLES_MIN = 5

# How much a number may grow from the early part to the last: a share of it, and something on top, below which the
# ordinary ups and downs of a busy process lie.
_GROWTH_SHARE = 0.2
_ALLOWANCES: Mapping[str, int] = {
    "private_bytes": 16 << 20,
    "files": 16,
    "sockets": 16,
    "threads": 8,
    "processes": 6,
    "tasks": 100,
}


@dataclass(frozen=True, slots=True)
class Trend:
    """One number of one process, or of all of a name: the medians of the early and of the last part of the run."""

    name: str
    measure: str
    early: float
    late: float

    @property
    def limit(self) -> float:
        """What the late median may be at the most."""
        return self.early * (1 + _GROWTH_SHARE) + _ALLOWANCES[self.measure]

    @property
    def flat(self) -> bool:
        """Whether it did not grow beyond its limit."""
        return self.late <= self.limit

    def __str__(self) -> str:
        verdict = "flat" if self.flat else f"GROWS beyond {self.limit:,.0f}"
        return f"{self.name} {self.measure}: {self.early:,.0f} early, {self.late:,.0f} late, {verdict}"


def trends(samples: Iterable[Vitals], duration_s: float) -> list[Trend]:
    """The trend of every number of every server, by name, over a run of `duration_s` seconds.

    A server too seldom seen in one of the two parts has none: a run of a few minutes is too short to say much.
    """
    series: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for sample in _warm(samples):
        for measure, value in sample.measured().items():
            series.setdefault((sample.name, measure), []).append((sample.at_s, value))
    begin_s = duration_s * _WARM_SHARE
    part_s = duration_s * _PART_SHARE
    found = []
    for (name, measure), points in sorted(series.items()):
        early = [value for at_s, value in points if begin_s <= at_s < begin_s + part_s]
        late = [value for at_s, value in points if at_s >= duration_s - part_s]
        if min(len(early), len(late)) >= _SAMPLES_MIN:
            found.append(Trend(name, measure, statistics.median(early), statistics.median(late)))
    return found


def _warm(samples: Iterable[Vitals]) -> Sequence[Vitals]:
    """The samples of processes that had run for a while."""
    first_seen_s: dict[tuple[str, int], float] = {}
    kept = []
    for sample in sorted(samples, key=lambda sample: sample.at_s):
        began_s = first_seen_s.setdefault((sample.name, sample.pid), sample.at_s)
        if sample.at_s - began_s >= WARM_S:
            kept.append(sample)
    return kept
