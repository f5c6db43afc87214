"""What a drill prints at its end: a table with a row for each fault, and below it what speaks against the cluster."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.drill.fault import Fault
from orchestrator.drill.figures import COLUMNS, row
from orchestrator.drill.result import FaultResult

_COMPLAINTS_MAX = 12
_WIDTH_MIN = 190


def print_report(console: Console, results: Sequence[FaultResult]) -> None:
    """The table, every complaint, and one line for a person in a hurry."""
    table = Table()
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("fault", "measure", "verdict", "invariants") else "right")
    for result in results:
        told = row(result)
        style = "dim" if told.skipped else "green" if told.passed else "bold red"
        table.add_row(*told.cells, Text(told.verdict, style=style))
    # A narrow terminal breaks lines; columns of two letters would tell nothing. The width of one print cannot exceed
    # that of its console, so the console is widened for the table.
    width, console.width = console.width, max(console.width, _WIDTH_MIN)
    try:
        console.print(table)
    finally:
        console.width = width
    for result in results:
        complaints = result.complaints()
        for complaint in complaints[:_COMPLAINTS_MAX]:
            _line(console, f"{result.fault.name}: {complaint}")
        if (more := len(complaints) - _COMPLAINTS_MAX) > 0:
            _line(console, f"{result.fault.name}: and {more} more")
        for remark in result.unchecked:
            _line(console, f"{result.fault.name}: {remark}")
        if result.skipped is None and result.repetitions < result.fault.repetitions:
            _line(console, f"{result.fault.name}: {result.repetitions} of {result.fault.repetitions} repetitions asked")
    console.print(_summary(results))


def _summary(results: Sequence[FaultResult]) -> Text:
    made = [result for result in results if result.skipped is None]
    skipped = f", {len(results) - len(made)} skipped" if len(made) < len(results) else ""
    broken = [result.fault.name for result in made if not result.passed]
    if broken:
        return Text(f"NOT GOOD: {', '.join(broken)}, of {len(made)} faults made{skipped}", style="bold red")
    return Text(f"every invariant holds: {len(made)} faults made{skipped}", style="bold green")


def print_catalogue(console: Console, faults: Sequence[Fault]) -> None:
    """Every fault that can be made, and where it cannot, why."""
    table = Table("#", "name", "what it does", "measure", "stage", "times")
    for fault in faults:
        bound = "" if fault.bound_s is None else f" {fault.bound_s:g} s"
        missing = fault.needs()
        says = fault.says if missing is None else f"{fault.says} (not here: {missing})"
        table.add_row(
            str(fault.number), fault.name, says, f"{fault.measure}{bound}", str(fault.stage), str(fault.repetitions)
        )
    console.print(table)


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def catalogue_in_markdown(faults: Sequence[Fault]) -> list[str]:
    """The lines of the table in docs/drill.md. The same on every host."""
    lines = [
        "| # | name | what it does | stage | measure and bound | changes | times |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in faults:
        bound = "" if fault.bound_s is None else f" {fault.bound_s:g} s"
        lines.append(
            f"| {fault.number} | `{fault.name}` | {fault.says} | {fault.stage} | {fault.measure}{bound} | "
            f"{fault.changes_max} | {fault.repetitions} |"
        )
    return lines
