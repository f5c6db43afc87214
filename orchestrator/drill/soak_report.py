"""What a soak tells at its end: on the terminal, as a page, and as numbers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from orchestrator.drill.result import FaultResult
from orchestrator.drill.soak import SoakOptions, SoakResult
from orchestrator.drill.soak_page import soak_page


def report(
    result: SoakResult, options: SoakOptions, html: Path | None, json: Path | None, tell: Callable[[str], None]
) -> None:
    """Write the report where it is wanted, and tell the rest. Raises OSError."""
    subtitle = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {options.stage.rate:g} sagas/s, a fault every "
        f"{options.fault_every_s:g} s, seed {options.stage.seed}"
    )
    if html is not None:
        html.write_text(soak_page(result, "Baton soak", subtitle))
    if json is not None:
        json.write_bytes(orjson.dumps(numbers(result), option=orjson.OPT_INDENT_2))
    for trend in result.trends:
        tell(str(trend))
    for complaint in result.complaints():
        tell(f"  {complaint}")
    tell("every invariant held, and all stayed flat" if result.passed else "NOT GOOD, see above")


def numbers(result: SoakResult) -> dict[str, Any]:
    """Everything that was found, as values that JSON has; of the samples, what became of them."""
    return {
        "passed": result.passed,
        "complaints": result.complaints(),
        "duration_s": result.duration_s,
        "sagas": result.states,
        "failed_starts": list(result.failed_starts),
        "changes": result.changes,
        "changes_max": result.changes_max,
        "audits": [
            {
                "at_s": audit.at_s,
                "sagas": audit.sagas,
                "invariants": {finding.invariant: finding.holds for finding in audit.findings},
            }
            for audit in result.audits
        ],
        "faults": [_fault(fault) for fault in result.faults],
        "trends": [
            {"process": t.name, "measure": t.measure, "early": t.early, "late": t.late, "limit": t.limit}
            for t in result.trends
        ],
    }


def _fault(result: FaultResult) -> dict[str, Any]:
    fault = result.fault
    return {
        "number": fault.number,
        "name": fault.name,
        "times": result.repetitions,
        "measure": str(fault.measure),
        "bound_s": fault.bound_s,
        "measured_s": [value if value < float("inf") else None for value in result.measured],
    }
