"""Alerts, their pages and their tests; dashboards; and that every metric in them is one that a replica has."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.leadership.victory import Cause, Ending
from orchestrator.telemetry import Metrics, sagas_by_state
from tests.prometheus import program

ROOT = Path(__file__).resolve().parents[2]
RULES_FILE = ROOT / "deploy" / "prometheus" / "alerts.yml"
TESTS_FILE = Path(__file__).with_name("alerts_test.yml")
RUNBOOKS = ROOT / "docs" / "runbooks"
DASHBOARDS = {path.stem: path for path in sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))}

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = {rule["record"] for rule in RULES if "record" in rule}

_METRIC = re.compile(r"\b((?:baton|process)[a-z_:]*[a-z]\w*)\b(?!\s*=)")


def known_metrics() -> dict[str, set[str]]:
    """The series that a replica may show, each with the names of its labels."""
    metrics = Metrics("baton", "replica-1")
    known: dict[str, set[str]] = {"up": set()}
    for collector in metrics.registry._collector_to_names:
        labels = set(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            known |= dict.fromkeys(_samples(family.name, family.type), labels)
    return known | {sagas_by_state({}).name: {"definition", "state"}}


def _samples(name: str, kind: str) -> list[str]:
    match kind:
        case "counter":
            return [f"{name}_total"]
        case "histogram":
            return [f"{name}_{part}" for part in ("bucket", "sum", "count")]
    return [name]


KNOWN = known_metrics()
# What Prometheus adds to every series, or the scraper to every target.
TARGET_LABELS = {"cluster", "instance", "job", "replica", "le"}


def queries() -> list[tuple[str, str]]:
    """Every query of a rule or a panel, with where it stands."""
    found = [(str(rule.get("alert") or rule["record"]), rule["expr"]) for rule in RULES]
    for name, path in DASHBOARDS.items():
        for panel in json.loads(path.read_text())["panels"]:
            found += [(f"{name}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    return found


@pytest.mark.parametrize(("where", "query"), queries(), ids=lambda value: value[:40])
def test_every_metric_and_label_of_a_query_exists(where: str, query: str) -> None:
    metrics = set(_METRIC.findall(re.sub(r'"[^"]*"', '""', query)))
    assert metrics or "up{" in query, where
    assert metrics <= set(KNOWN) | RECORDS, where
    for metric, selector in re.findall(r"\b(\w+)\{([^}]*)\}", query):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert labels <= KNOWN[metric] | TARGET_LABELS, where
    of_all = set.union(*(KNOWN.get(metric, {"definition"}) for metric in metrics), TARGET_LABELS)
    for group in re.findall(r"\bby \(([^)]*)\)", query):
        assert set(re.findall(r"\w+", group)) <= of_all, where


def test_a_query_of_a_metric_that_does_not_exist_would_be_seen() -> None:
    with pytest.raises(AssertionError):
        test_every_metric_and_label_of_a_query_exists("x", 'sum by (cluster) (baton_sagas_lost{state="FAILED"})')
    with pytest.raises(AssertionError):
        test_every_metric_and_label_of_a_query_exists("x", 'baton_sagas{saga="FAILED"}')


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_severity_a_summary_and_a_page(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    page = ROOT / rule["annotations"]["runbook_url"]
    text = page.read_text()
    assert page.parent == RUNBOOKS
    assert text.startswith(f"# {alert}\n")
    for part in ("**What it means.**", "**Look.**", "**Do.**"):
        assert part in text, page.name
    assert f"[{alert}]({page.name})" in (RUNBOOKS / "README.md").read_text()


def test_every_page_belongs_to_an_alert() -> None:
    pages = {Path(rule["annotations"]["runbook_url"]).name for rule in ALERTS.values()}
    assert {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"} == pages


def test_the_page_on_flapping_explains_causes_and_ends_that_exist() -> None:
    words = {cause.value for cause in Cause} | {ending.value for ending in Ending}
    text = (RUNBOOKS / "leadership-flaps.md").read_text()
    named = set(re.findall(r"`([a-z_]+)`", text))
    assert named
    assert named <= words


def test_every_alert_is_tried_silent_and_firing() -> None:
    silent, firing = set(), set()
    for test in yaml.safe_load(TESTS_FILE.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            (firing if case["exp_alerts"] else silent).add(case["alertname"])
    assert silent == firing == set(ALERTS)


def test_the_rules_are_valid_and_do_as_their_tests_say() -> None:
    promtool = program("promtool")
    for command in (["check", "rules", str(RULES_FILE)], ["test", "rules", str(TESTS_FILE)]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_of_prometheus_is_valid() -> None:
    config = RULES_FILE.with_name("prometheus.yml")
    done = subprocess.run(
        [program("promtool"), "check", "config", "--syntax-only", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_of_metrics_is_what_its_script_writes() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "metrics_table.py"))["page"]()
    written = (ROOT / "docs" / "metrics.md").read_text()
    assert written == page, "run `python scripts/metrics_table.py`"
    assert all(f"`{name}`" in written for name in ("baton_is_leader", "baton_sagas", "baton_calls_total"))


def test_the_dashboards_are_what_their_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "dashboards.py"), str(tmp_path)], check=True, timeout=60)
    written = {path.stem: path.read_text() for path in tmp_path.iterdir()}
    committed = {name: path.read_text() for name, path in DASHBOARDS.items()}
    assert committed == written, "run `python scripts/dashboards.py`"
    assert set(committed) == {"leadership", "sagas", "participants", "log"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_can_be_imported_as_it_is(name: str) -> None:
    document = json.loads(DASHBOARDS[name].read_text())
    assert document["uid"] == f"baton-{name}"
    assert {variable["name"] for variable in document["templating"]["list"]} == {"source", "cluster"}
    panels = document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 0
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${source}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    volumes = dict(volume.rsplit(":ro", 1)[0].split(":", 1) for volume in compose["services"]["grafana"]["volumes"])
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    provider = yaml.safe_load((provisioning / "dashboards" / "baton.yml").read_text())["providers"][0]
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    assert volumes["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert volumes["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).stem in DASHBOARDS
