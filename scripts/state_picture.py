#!/usr/bin/env python3
"""Draws the states of a saga in docs/architecture.md from the table that `evolve` goes by.

.venv/bin/python scripts/state_picture.py            writes the picture and the table
.venv/bin/python scripts/state_picture.py --check    says whether they are up to date, and writes nothing
"""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.saga.model import SagaState
from orchestrator.saga.transitions import TABLE

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
BEGIN, END = "<!-- states: scripts/state_picture.py -->\n", "<!-- /states -->\n"


def drawn() -> str:
    """The picture, and the table of what leads from where to where."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> PENDING"]
    lines += [f"    {before} --> {after}: {_short(statuses)}" for (before, after), statuses in _changes()]
    lines += [f"    {state} --> [*]" for state in (SagaState.COMPLETED, SagaState.COMPENSATED)]
    lines += ["```", "", "| from | to | by |", "|---|---|---|"]
    for (before, after), statuses in TABLE.items():
        by = ", ".join(f"`{status}`" for status in statuses.split())
        lines.append(f"| {before} | {after if after is not before else 'the same'} | {by} |")
    return "\n".join([*lines, ""])


def page(text: str) -> str:
    """The page with what is drawn in its place."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{drawn()}{END}{tail}"


def _changes() -> list[tuple[tuple[SagaState, SagaState], str]]:
    return [(states, statuses) for states, statuses in TABLE.items() if states[0] is not states[1]]


def _short(statuses: str) -> str:
    words = statuses.split()
    return ", ".join(words[:3]) + (", ..." if len(words) > 3 else "")


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        sys.exit(0 if page(text) == text else "docs/architecture.md is not up to date: run scripts/state_picture.py")
    PAGE.write_text(page(text), encoding="utf-8")
