"""Prints the figures of drills as the table of docs/reliability.md.

python scripts/drill_table.py docs/reports/drill.json docs/reports/drill-again.json

Of a fault that was made in several of them, the last one counts; one that is in the catalogue no more is left out.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.drill.catalogue import FAULTS
from orchestrator.drill.figures import seconds
from orchestrator.drill.result import quantile

_COLUMNS = ("#", "fault", "times", "measure", "p50", "p99", "bound", "sagas", "changes", "verdict")


def table(reports: Iterable[Mapping[str, Any]]) -> str:
    """The table in Markdown, a row for each fault, in the order of their numbers."""
    head = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
    last = {fault["name"]: fault for report in reports for fault in report["faults"] if fault["repetitions"]}
    rows = [last[fault.name] for fault in FAULTS if fault.name in last]
    return "\n".join([head, *map(_row, rows)])


def _row(fault: Mapping[str, Any]) -> str:
    name = f"| {fault['number']} | `{fault['name']}`: {fault['says']} |"
    if fault["skipped"]:
        return f"{name} | | | | | | | skipped: {fault['skipped']} |"
    measured = [math.inf if value is None else value for value in fault["measured_s"]]
    told = bool(measured) and fault["measure"] != "none"
    cells = [
        str(fault["repetitions"]),
        fault["measure"] if told else "",
        seconds(quantile(measured, 0.5)) if told else "",
        seconds(quantile(measured, 0.99)) if told else "",
        "" if fault["bound_s"] is None else seconds(fault["bound_s"]),
        f"{sum(fault['sagas'].values()):,}",
        f"{fault['changes']} of {fault['changes_max']}",
        "holds" if fault["passed"] else "**VIOLATED**",
    ]
    return f"{name} {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table(json.loads(Path(name).read_text()) for name in sys.argv[1:]))
