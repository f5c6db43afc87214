#!/usr/bin/env python3
"""Makes the PrometheusRule for Kubernetes from the alerts that Prometheus reads as a file.

    .venv/bin/python scripts/prometheus_rule.py

Both must say the same, and a test compares them.
"""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULE = ROOT / "deploy" / "kubernetes" / "components" / "monitoring" / "rules.yaml"

_HEAD = """\
# Made from deploy/prometheus/alerts.yml by scripts/prometheus_rule.py: change the alerts there.
"""


def rule(alerts: str) -> str:
    """The PrometheusRule with these alerts, as YAML."""
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "baton", "labels": {"app.kubernetes.io/name": "baton"}},
        "spec": {"groups": yaml.safe_load(alerts)["groups"]},
    }
    return _HEAD + yaml.safe_dump(document, sort_keys=False, width=120)


if __name__ == "__main__":
    RULE.write_text(rule(ALERTS.read_text()))
