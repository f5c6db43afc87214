#!/usr/bin/env python3
"""Writes docs/metrics.md: every metric that a replica shows, as telemetry.py declares it.

.venv/bin/python scripts/metrics_table.py
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.telemetry import Metrics, sagas_by_state

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
HEAD = """\
# Metrics

Every replica shows these at `http://HOST:7480/metrics`, in the format of Prometheus. Counts of sagas in the log are the
same on every replica: take the `max`. What a replica does itself (steps, calls, commits) is its own: take the `sum`. No
label ever holds a saga's id. Which of them to watch is in the alerts and dashboards of
[runbooks](runbooks/README.md).

    curl -s http://127.0.0.1:7480/metrics | grep baton_is_leader

This page is written by `scripts/metrics_table.py`.

| Metric | Kind | Labels | |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = []
    registry = Metrics("baton", "replica-1").registry
    families = [
        (family, tuple(getattr(collector, "_labelnames", ())))
        for collector in registry._collector_to_names
        for family in collector.collect()
    ]
    for family, labels in [*families, (sagas_by_state({}), ("definition", "state"))]:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        named = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| `{name}` | {family.type} | {named} | {family.documentation} |\n")
    return HEAD + "".join(sorted(rows))


if __name__ == "__main__":
    PAGE.write_text(page())
