"""The figures of a drill: what a row of the report says of one fault, and all of them as plain values. Pure.

The table on the terminal, the page and the file of numbers are made of the same rows, so that they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.drill.fault import Measure
from orchestrator.drill.result import BUCKET_S, FaultResult, Timeline, quantile

COLUMNS = (
    "fault",
    "times",
    "measure",
    "p50",
    "p99",
    "max",
    "bound",
    "started",
    "completed",
    "compensated",
    "parked",
    "failed starts",
    "changes",
    "invariants",
    "verdict",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One fault in the words of the report, in the order of COLUMNS but for the verdict."""

    cells: Sequence[str]
    verdict: str
    passed: bool
    skipped: bool


def row(result: FaultResult) -> Row:
    """The row of a fault."""
    fault = result.fault
    name = fault.title
    if result.skipped is not None:
        return Row([name, *("" for _ in COLUMNS[2:])], f"skipped: {result.skipped}", passed=True, skipped=True)
    quantiles = [_measured(result.measured, share) for share in (0.5, 0.99, 1.0)]
    cells = [
        name,
        str(result.repetitions),
        "" if fault.measure is Measure.NONE else str(fault.measure),
        *quantiles,
        "" if fault.bound_s is None else seconds(fault.bound_s),
        *(str(count) for count in (sum(result.states.values()), *_ends(result))),
        str(len(result.failed_starts)),
        f"{result.changes}/{result.changes_max}",
        invariants(result),
    ]
    return Row(cells, "holds" if result.passed else "VIOLATED", result.passed, skipped=False)


def _ends(result: FaultResult) -> tuple[int, int, int]:
    """Sagas completed, compensated, and parked for a person."""
    return tuple(result.states.get(state, 0) for state in ("COMPLETED", "COMPENSATED", "FAILED"))  # type: ignore[return-value]


def invariants(result: FaultResult) -> str:
    """The invariants that hold, as a count, and the names of those that do not."""
    broken = [finding.invariant for finding in result.findings if not finding.holds]
    if not result.within_bound:
        broken.append("I7")
    if broken:
        return ", ".join(broken) + " broken"
    return f"{len(result.findings)} hold" if result.findings else "not judged"


def _measured(measured: Sequence[float], share: float) -> str:
    return seconds(quantile(measured, share)) if measured else ""


def seconds(value_s: float) -> str:
    """A duration as a person reads it; infinite is never."""
    if math.isinf(value_s):
        return "never"
    return f"{value_s * 1000:.0f} ms" if value_s < 1 else f"{value_s:.2f} s"


def numbers(results: Iterable[FaultResult]) -> dict[str, Any]:
    """Everything that was found, as values that JSON has. A measure that never ended is null."""
    faults = [_numbers(result) for result in results]
    return {"passed": all(fault["passed"] for fault in faults), "faults": faults}


def _numbers(result: FaultResult) -> dict[str, Any]:
    fault = result.fault
    return {
        "number": fault.number,
        "name": fault.name,
        "says": fault.says,
        "stage": str(fault.stage),
        "skipped": result.skipped,
        "error": result.error,
        "unchecked": list(result.unchecked),
        "passed": result.passed,
        "repetitions": result.repetitions,
        "reason": fault.reason,
        "measure": str(fault.measure),
        "bound_s": fault.bound_s,
        "measured_s": [None if math.isinf(value) else value for value in result.measured],
        "sagas": dict(result.states),
        "failed_starts": list(result.failed_starts),
        "changes": result.changes,
        "changes_max": result.changes_max,
        "invariants": {
            finding.invariant: {
                "holds": finding.holds,
                "checked": finding.checked,
                "offences": [str(offence) for offence in finding.offences],
            }
            for finding in result.findings
        },
        "timeline": None if result.timeline is None else _timeline(result.timeline),
    }


def _timeline(timeline: Timeline) -> dict[str, Any]:
    return {
        "duration_s": timeline.duration_s,
        "bucket_s": BUCKET_S,
        "ended": {state: list(counts) for state, counts in timeline.ended.items()},
        "marks": [
            {
                "struck_s": mark.struck_s,
                "healed_s": mark.healed_s,
                "measured_s": mark.measured_s,
                "outage_s": mark.outage_s,
            }
            for mark in timeline.marks
        ],
        "terms": [
            {"epoch": term.epoch, "holder": term.holder, "cause": term.cause, "began_s": term.began_s}
            for term in timeline.terms
        ],
    }
