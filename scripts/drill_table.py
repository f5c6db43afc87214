"""Prints the figures of a drill as the table of docs/reliability.md.

python scripts/drill_table.py docs/reports/drill.json
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.drill.figures import seconds
from orchestrator.drill.result import quantile

_COLUMNS = ("#", "fault", "times", "measure", "p50", "p99", "bound", "sagas", "changes", "verdict")


def table(report: Mapping[str, Any]) -> str:
    """The table in Markdown, a row for each fault."""
    head = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
    return "\n".join([head, *(_row(fault) for fault in report["faults"])])


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
    print(table(json.loads(Path(sys.argv[1]).read_text())))
