"""Makes faults one after another, shows how that goes, and reports what came of it, as table, page and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
from rich.console import Console

from orchestrator.drill.fault import Fault
from orchestrator.drill.figures import numbers
from orchestrator.drill.page import page
from orchestrator.drill.report import print_report
from orchestrator.drill.result import FaultResult
from orchestrator.drill.runner import run_fault
from orchestrator.drill.stages import StageOptions
from orchestrator.errors import Rejected


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What is drilled and where its report goes. `repetitions` None is what the catalogue says."""

    faults: Sequence[Fault]
    stage: StageOptions
    repetitions: int | None = None
    html: Path | None = None
    json: Path | None = None


async def run_drill(options: DrillOptions, console: Console) -> bool:
    """Run the drill; whether nothing was violated. The report is written again after each fault.

    Raises Rejected when the report cannot be written, ProcessFailed when a stage cannot be set.
    """
    _write(options, [])
    results: list[FaultResult] = []
    for fault in options.faults:
        options.stage.tell(f"{fault.number} {fault.name}: {fault.says}")
        # A folder of its own: a fault must not be judged by what another one has left.
        stage = replace(options.stage, data_dir=options.stage.data_dir / fault.name)
        result = await run_fault(fault, stage, options.repetitions)
        options.stage.tell(f"{fault.number} {fault.name}: {_verdict(result)}")
        results.append(result)
        _write(options, results)
    print_report(console, results)
    return all(result.passed for result in results)


def _verdict(result: FaultResult) -> str:
    if result.skipped is not None:
        return f"skipped: {result.skipped}"
    return "holds" if result.passed else "VIOLATED: " + "; ".join(result.complaints()[:1])


def _write(options: DrillOptions, results: Sequence[FaultResult]) -> None:
    subtitle = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {options.stage.rate:g} sagas/s, seed {options.stage.seed}"
    try:
        if options.html is not None:
            options.html.write_text(page(results, "Baton drill", subtitle))
        if options.json is not None:
            options.json.write_bytes(orjson.dumps(numbers(results), option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise Rejected(f"the report cannot be written: {error}") from None
