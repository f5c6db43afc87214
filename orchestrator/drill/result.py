"""What came of the faults of a drill, as values: for the table, the page and the file of numbers. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.audit.finding import Finding
from orchestrator.drill.fault import FaultProfile, Measure

BUCKET_S = 0.25


@dataclass(frozen=True, slots=True)
class Mark:
    """One strike: when it was made and healed, in seconds of the timeline, and what was measured, in seconds.

    `measured_s` is None if there was nothing to measure, or if nobody ever drove a saga again; `outage_s` is the
    pause that the fault itself was.
    """

    struck_s: float
    healed_s: float
    measured_s: float | None
    outage_s: float = 0.0

    @property
    def beyond_s(self) -> float | None:
        """What was measured, without the outage that the fault itself was."""
        return None if self.measured_s is None else max(0.0, self.measured_s - self.outage_s)


@dataclass(frozen=True, slots=True)
class Term:
    """A term of leadership on the timeline: it began at `began_s` seconds."""

    epoch: int
    holder: str
    cause: str
    began_s: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """A fault's repetitions over time. `ended` counts, by state, the sagas that ended in each bucket of BUCKET_S."""

    duration_s: float
    marks: Sequence[Mark]
    terms: Sequence[Term]
    ended: Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class FaultResult:
    """One fault: skipped for a reason, failed with an error, or made `repetitions` times and judged.

    `unchecked` says what could not be looked at, and why.
    """

    fault: FaultProfile
    skipped: str | None = None
    error: str | None = None
    repetitions: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    failed_starts: Sequence[str] = ()
    changes: int = 0
    findings: Sequence[Finding] = ()
    timeline: Timeline | None = None
    unchecked: Sequence[str] = ()

    @property
    def measured(self) -> list[float]:
        """What was measured at each strike, in seconds, beyond the fault's own outage; infinite for never."""
        if self.timeline is None or self.fault.measure is Measure.NONE:
            return []
        return [math.inf if mark.beyond_s is None else mark.beyond_s for mark in self.timeline.marks]

    @property
    def within_bound(self) -> bool:
        """Whether the measure stayed within the fault's bound, at the 99th percentile."""
        bound_s = self.fault.bound_s
        return bound_s is None or not self.measured or quantile(self.measured, 0.99) <= bound_s

    @property
    def changes_max(self) -> int:
        """How many changes of leadership these faults are a reason for."""
        return self.fault.changes_max * self.repetitions

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the cluster. A skipped fault proves nothing, and has not failed."""
        if self.skipped is not None:
            return True
        sound = self.error is None and not self.failed_starts and all(finding.holds for finding in self.findings)
        return sound and self.within_bound and self.changes <= self.changes_max

    def complaints(self) -> list[str]:
        """Everything that speaks against it, in words."""
        lines = [] if self.error is None else [self.error]
        lines += [f"StartSaga failed: {failure}" for failure in self.failed_starts]
        lines += [line for finding in self.findings if not finding.holds for line in finding.lines()]
        if self.changes > self.changes_max:
            terms = ", ".join(f"{term.epoch} {term.holder} ({term.cause})" for term in self._terms())
            lines.append(f"I8: leadership changed {self.changes} times, for {self.changes_max} reasons: {terms}")
        if not self.within_bound:
            worst_s = quantile(self.measured, 0.99)
            lines.append(f"I7: {self.fault.measure} of {worst_s:.3f} s at p99, more than {self.fault.bound_s:g} s")
        return lines

    def _terms(self) -> Sequence[Term]:
        return () if self.timeline is None else self.timeline.terms


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
