#!/usr/bin/env python3
"""Writes the Grafana dashboards of deploy/grafana/dashboards: what they show stands in panels/, and only there.

    .venv/bin/python scripts/dashboards.py [FOLDER]

The JSON is what Grafana imports: each panel gets its place, its identity and its data source from here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from panels.leadership import LEADERSHIP
from panels.log import LOG
from panels.participants import PARTICIPANTS
from panels.sagas import SAGAS
from queries import Panel

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "dashboards"
COLUMNS = 24
HEIGHTS = {"stat": 4, "timeseries": 8, "state-timeline": 6}
SOURCE = {"type": "prometheus", "uid": "${source}"}

DASHBOARDS = {
    "leadership": ("Baton: leadership", LEADERSHIP),
    "sagas": ("Baton: sagas", SAGAS),
    "participants": ("Baton: participants", PARTICIPANTS),
    "log": ("Baton: the log", LOG),
}


def dashboard(name: str) -> dict[str, Any]:
    """A whole dashboard as Grafana reads it."""
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"baton-{name}",
        "title": title,
        "tags": ["baton"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "links": [
            {"type": "dashboards", "tags": ["baton"], "title": "Baton", "asDropdown": False, "keepTime": True},
        ],
        "templating": {"list": _variables()},
        "panels": _placed(panels),
    }


def _variables() -> list[dict[str, Any]]:
    every = {"text": "All", "value": "$__all"}
    return [
        {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"},
        {
            "name": "cluster",
            "label": "Cluster",
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": "label_values(baton_is_leader, cluster)", "refId": "cluster"},
            "refresh": 2,
            "includeAll": True,
            # Also where the targets carry no such label.
            "allValue": ".*",
            "current": every,
        },
    ]


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    placed, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y, row = 0, y + row, 0
        height = HEIGHTS[panel.kind]
        place = {"x": x, "y": y, "w": panel.width, "h": height}
        placed.append({"id": number, "gridPos": place, **_panel(panel)})
        x, row = x + panel.width, max(row, height)
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    overrides = []
    if panel.kind == "timeseries":
        defaults |= {"min": panel.more.get("from", 0), "custom": {"fillOpacity": 10, "showPoints": "never"}}
    if "words" in panel.more:
        words = {str(value): {"text": word, "color": color} for value, (word, color) in enumerate(panel.more["words"])}
        defaults["mappings"] = [{"type": "value", "options": words}]
    if "red_from" in panel.more:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.more["red_from"]}]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if "right" in panel.more:
        pattern, unit = panel.more["right"]
        properties = [{"id": "unit", "value": unit}, {"id": "custom.axisPlacement", "value": "right"}]
        overrides = [{"matcher": {"id": "byRegexp", "options": pattern}, "properties": properties}]
    options: dict[str, Any] = {}
    if panel.kind == "stat":
        options = {"textMode": panel.more.get("textMode", "value"), "graphMode": "area"}
        options["reduceOptions"] = {"calcs": ["lastNotNull"]}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": options,
        "targets": [_target(number, panel, ask, legend) for number, (ask, legend) in enumerate(panel.queries)],
    }


def _target(number: int, panel: Panel, ask: str, legend: str) -> dict[str, Any]:
    target = {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": ask, "legendFormat": legend or "__auto"}
    # What is true now, and of no moment before.
    return target | ({"instant": True, "range": False} if panel.more.get("instant") else {})


def text(name: str) -> str:
    """The file of a dashboard."""
    return json.dumps(dashboard(name), indent=2) + "\n"


def main(folder: Path) -> None:
    """Write all files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (folder / f"{name}.json").write_text(text(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
