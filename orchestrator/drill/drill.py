"""Makes faults one after another, shows how that goes, and reports what came of it, as table, page and numbers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import orjson
from rich.console import Console

from orchestrator.audit.screen import Screen
from orchestrator.drill.deployed import DeployedOptions, run_command
from orchestrator.drill.fault import Fault, FaultProfile
from orchestrator.drill.figures import numbers
from orchestrator.drill.operator_command import OperatorCommand
from orchestrator.drill.page import page
from orchestrator.drill.report import print_report
from orchestrator.drill.result import FaultResult
from orchestrator.drill.runner import run_fault
from orchestrator.drill.stages import StageOptions
from orchestrator.errors import Rejected


@dataclass(frozen=True, slots=True)
class Drilled:
    """A fault, and what makes it."""

    fault: FaultProfile
    make: Callable[[], Awaitable[FaultResult]]


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What is drilled and where its report goes. `circumstances` go below the report's title."""

    faults: Sequence[Drilled]
    screen: Screen
    circumstances: str
    html: Path | None = None
    json: Path | None = None


def on_own_clusters(faults: Sequence[Fault], stage: StageOptions, repetitions: int | None) -> list[Drilled]:
    """Faults of the catalogue; `repetitions` None is what the catalogue says."""
    # A folder of its own for each: a fault must not be judged by what another one has left.
    return [
        Drilled(
            fault, partial(run_fault, fault, replace(stage, data_dir=stage.data_dir / fault.name), repetitions)
        )
        for fault in faults
    ]  # fmt: skip


def on_deployed(
    commands: Sequence[tuple[FaultProfile, OperatorCommand]], options: DeployedOptions
) -> list[Drilled]:  # fmt: skip
    """Commands of an operator's on a deployed cluster."""
    return [Drilled(profile, partial(run_command, profile, command, options)) for profile, command in commands]


async def run_drill(options: DrillOptions, console: Console) -> bool:
    """Run the drill; whether nothing was violated. The report is written again after each fault.

    Raises Rejected when the report cannot be written, ProcessFailed when a stage cannot be set.
    """
    _write(options, [])
    results: list[FaultResult] = []
    tell = options.screen.tell
    with options.screen.showing():
        for drilled in options.faults:
            tell(f"{drilled.fault.title}: {drilled.fault.says}")
            result = await drilled.make()
            tell(f"{drilled.fault.title}: {_verdict(result)}")
            results.append(result)
            _write(options, results)
    print_report(console, results)
    return all(result.passed for result in results)


def _verdict(result: FaultResult) -> str:
    if result.skipped is not None:
        return f"skipped: {result.skipped}"
    return "holds" if result.passed else "VIOLATED: " + "; ".join(result.complaints()[:1])


def _write(options: DrillOptions, results: Sequence[FaultResult]) -> None:
    subtitle = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {options.circumstances}"
    try:
        if options.html is not None:
            options.html.write_text(page(results, "Baton drill", subtitle))
        if options.json is not None:
            options.json.write_bytes(orjson.dumps(numbers(results), option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise Rejected(f"the report cannot be written: {error}") from None
