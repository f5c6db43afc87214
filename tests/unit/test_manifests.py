"""The Kubernetes manifests: their schemas, offline, and the rules that Baton's own deployment must keep."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from scripts.prometheus_rule import ALERTS, RULE, rule

from .kustomize import Manifest, containers_of, kustomization_of, manifests_in, pod_of
from .manifest_sets import (
    DEFINITIONS,
    KUBERNETES,
    ROOT,
    SETS,
    labels_of,
    manifest_set,
    of_kind,
    replica_of,
    title,
    workloads,
)

SCHEMAS = ROOT / "tests" / "schemas"
VERSIONS = sorted(path.stem for path in SCHEMAS.glob("kubernetes-*.json"))
OPERATOR = "prometheus-operator"
# What is applied by itself: examples, and what an administrator applies once for a cluster.
BESIDE = ("cluster", "examples")

CASES = [(name, title(manifest)) for name in SETS for manifest in manifest_set(name)]


def manifest(name: str, titled: str) -> Manifest:
    """One manifest of a set."""
    (found,) = (manifest for manifest in manifest_set(name) if title(manifest) == titled)
    return found


def cases(*kinds: str) -> list[tuple[str, str]]:
    """The manifests of some kinds, in every set."""
    return [(name, titled) for name, titled in CASES if titled.partition("/")[0] in kinds]


@cache
def _schemas(file: str) -> Any:
    return json.loads((SCHEMAS / f"{file}.json").read_text())


def errors_of(manifest: Manifest, version: str) -> list[str]:
    """What the vendored schemas of Kubernetes, or of the operator of Prometheus, say against a manifest."""
    group = manifest["apiVersion"].partition("/")[0]
    document = _schemas(OPERATOR if group == "monitoring.coreos.com" else version)
    kind = f"{manifest['apiVersion']}/{manifest['kind']}"
    definition = document["kinds"].get(kind)
    assert definition is not None, f"{kind} is not vendored: add it to tests/schemas/extract.py"
    schema = {"$ref": f"#/$defs/{definition}", "$defs": document["$defs"]}
    found = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
    return [f"{error.json_path}: {error.message}" for error in found]


def test_the_schemas_are_of_three_versions_in_a_row() -> None:
    minors = [int(version.rpartition(".")[2]) for version in VERSIONS]
    assert minors == list(range(minors[0], minors[0] + 3))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SETS)
def test_manifests_keep_the_schemas_of_their_kinds(name: str, version: str) -> None:
    manifests = manifest_set(name)
    assert {title(manifest): errors for manifest in manifests if (errors := errors_of(manifest, version))} == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_applied_by_itself_keeps_the_schemas_too(version: str) -> None:
    for path in (path for folder in BESIDE for path in (KUBERNETES / folder).rglob("*.yaml")):
        for manifest in manifests_in(path):
            # The operators' own kinds are theirs to check.
            if kind_is_of_kubernetes(manifest):
                assert errors_of(manifest, version) == [], path


def kind_is_of_kubernetes(manifest: Manifest) -> bool:
    """Whether Kubernetes itself defines the kind."""
    group = manifest["apiVersion"].rpartition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and not group.startswith("kustomize"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "replicas"), "three"),
        (("spec", "replica"), 3),
        (("spec", "template", "spec", "containers", 0, "readinessProbe", "httpGet", "prot"), 1),
        (("spec", "template", "spec", "containers", 0, "env", 0, "valu"), "x"),
        (("spec", "template", "spec", "securityContext", "runAsNonRoot"), "yes"),
    ],
)
def test_schema_refuses_a_broken_replica(path: tuple[str | int, ...], value: object, version: str) -> None:
    broken = replica_of(manifest_set("base"))
    at = broken
    for key in path[:-1]:
        at = at[key]  # type: ignore[index]
    at[path[-1]] = value  # type: ignore[index]
    assert errors_of(broken, version)


@pytest.mark.parametrize(("kind", "field"), [("ServiceMonitor", "endpoint"), ("PrometheusRule", "group")])
def test_the_operators_schema_refuses_what_is_misspelt(kind: str, field: str) -> None:
    (broken,) = of_kind(manifest_set("complete"), kind)
    assert errors_of(broken, VERSIONS[0]) == []
    broken["spec"][field] = []
    assert errors_of(broken, VERSIONS[0])


def _real_kustomize() -> list[str] | None:
    if kustomize := shutil.which("kustomize"):
        return [kustomize, "build"]
    if kubectl := shutil.which("kubectl"):
        return [kubectl, "kustomize"]
    return None


@pytest.mark.skipif(_real_kustomize() is None, reason="neither kustomize nor kubectl is installed")
@pytest.mark.parametrize("name", SETS)
def test_kustomize_renders_the_same(name: str, tmp_path: Path) -> None:
    command = _real_kustomize()
    assert command is not None
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    overlay = {"complete": "overlays/production", "dev-complete": "overlays/dev"}.get(name, name)
    folder = tmp_path / "deploy" / "kubernetes" / overlay
    file = folder / "kustomization.yaml"
    if name == "complete":
        # As its comments tell a user to.
        file.write_text(re.sub(r"^  # (?=- \.\./)", "  ", file.read_text(), flags=re.MULTILINE))
    elif name == "dev-complete":
        file.write_text(f"{file.read_text()}components: [../../components/monitoring, ../../components/leader-label]\n")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    # The names of what is generated end in a hash of the content.
    real = re.sub(r"\b((?:baton|shop|postgres)-[a-z]+)-[a-z0-9]{10}$", r"\1", done.stdout, flags=re.M)
    expected = {title(manifest): _in_order(manifest) for manifest in manifest_set(name)}
    assert {title(manifest): _in_order(manifest) for manifest in yaml.safe_load_all(real)} == expected


def _in_order(manifest: Manifest) -> Manifest:
    """Without the order in which a merge puts elements that have a name."""
    (pod_of(manifest) or {}).get("volumes", []).sort(key=lambda volume: volume["name"])
    for container in containers_of(manifest):
        container.get("volumeMounts", []).sort(key=lambda mount: mount["name"])
        container.get("ports", []).sort(key=lambda port: port["name"])
        if not any("$(" in variable.get("value", "") for variable in container.get("env", [])):
            # None is made of another one, so their order says nothing.
            container.get("env", []).sort(key=lambda variable: variable["name"])
    if manifest["kind"] == "Service":
        manifest["spec"]["ports"].sort(key=lambda port: port["name"])
    if manifest["kind"] == "ConfigMap":
        # kustomize ends the block of a file's text in its own way.
        manifest["data"] = {key: value.strip() for key, value in manifest["data"].items()}
    return manifest


def test_the_rules_for_kubernetes_are_those_of_the_file() -> None:
    assert RULE.read_text() == rule(ALERTS.read_text()), "run scripts/prometheus_rule.py"
    (made,) = of_kind(manifest_set("complete"), "PrometheusRule")
    assert made["spec"]["groups"] == yaml.safe_load(ALERTS.read_text())["groups"]


def test_what_is_scraped_carries_the_labels_that_the_rules_ask_for() -> None:
    manifests = manifest_set("complete")
    (monitor,) = of_kind(manifests, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    services = [s for s in of_kind(manifests, "Service") if wanted.items() <= s["metadata"]["labels"].items()]
    (service,) = services
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "baton"
    assert {relabeling["targetLabel"] for relabeling in endpoint["relabelings"]} == {"cluster", "replica"}
    assert service["spec"]["publishNotReadyAddresses"]


def test_kustomizations_name_every_file_and_no_other() -> None:
    folders = {
        path.parent for name in ("kustomization.yaml", "Kustomization") for path in (ROOT / "deploy").rglob(name)
    }
    for folder in folders:
        path = kustomization_of(folder)
        document = yaml.safe_load(path.read_text())
        named = [*(document.get("resources") or []), *(patch["path"] for patch in document.get("patches") or [])]
        resources = {(folder / resource).resolve() for resource in named}
        assert all(resource.exists() for resource in resources), path
        manifests = {file for file in folder.glob("*.yaml") if file != path}
        given = {folder / file for one in document.get("configMapGenerator", []) for file in one.get("files", [])}
        assert given | {resource for resource in resources if resource.is_file()} == manifests, path


def test_no_kustomization_is_taken_for_a_definition() -> None:
    assert not [path for path in DEFINITIONS.glob("*.yaml") if "steps" not in yaml.safe_load(path.read_text())]


def test_the_release_is_that_of_the_project() -> None:
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {c["image"] for name in SETS for w in workloads(manifest_set(name)) for c in containers_of(w)}
    assert {image for image in images if "/baton:" in f"/{image}"} == {
        f"baton:{release}",
        f"registry.example/baton:{release}",
    }


@pytest.mark.parametrize(("name", "titled"), cases("Deployment"))
def test_deployments_are_probed_on_ports_that_they_have(name: str, titled: str) -> None:
    pod = pod_of(manifest(name, titled))
    assert pod is not None
    for container in pod["containers"]:
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]
            if "exec" in asked:
                *check, kind, port = asked["exec"]["command"]
                assert (check, kind) == (["python3", "-IS", "/opt/baton/healthcheck.py"], "grpc")
                assert int(port) in ports.values()
                continue
            action = next(value for key, value in asked.items() if key in ("httpGet", "grpc", "tcpSocket"))
            assert action["port"] in (*ports, *ports.values())


def _selects(selector: dict[str, str], workload: Manifest) -> bool:
    return selector.items() <= labels_of(workload).items()


@pytest.mark.parametrize(("name", "titled"), cases("Deployment", "StatefulSet"))
def test_a_workload_selects_its_own_pods_and_nobody_elses(name: str, titled: str) -> None:
    selector = manifest(name, titled)["spec"]["selector"]["matchLabels"]
    assert [title(workload) for workload in workloads(manifest_set(name)) if _selects(selector, workload)] == [titled]


@pytest.mark.parametrize(("name", "titled"), cases("Service"))
def test_services_lead_to_the_pods_of_one_workload_and_to_ports_that_they_have(name: str, titled: str) -> None:
    service = manifest(name, titled)["spec"]
    selector = {key: value for key, value in service["selector"].items() if key != "baton-role"}
    (workload,) = (workload for workload in workloads(manifest_set(name)) if _selects(selector, workload))
    ports = {port["name"] for container in containers_of(workload) for port in container.get("ports", [])}
    assert {port["targetPort"] for port in service["ports"]} <= ports


@pytest.mark.parametrize(("name", "titled"), cases("PodDisruptionBudget", "NetworkPolicy"))
def test_budgets_and_policies_are_about_pods_that_there_are(name: str, titled: str) -> None:
    spec = manifest(name, titled)["spec"]
    selector = spec.get("selector", spec.get("podSelector")).get("matchLabels", {})
    assert [workload for workload in workloads(manifest_set(name)) if _selects(selector, workload)]


def test_the_leaders_service_asks_for_the_label_that_the_sidecar_sets() -> None:
    manifests = manifest_set("complete")
    (service,) = (service for service in of_kind(manifests, "Service") if service["metadata"]["name"] == "baton-leader")
    assert service["spec"]["selector"]["baton-role"] == "leader"
    # The default of `baton leader-label`, which the sidecar does not change.
    (sidecar,) = (pod_of(replica_of(manifests)) or {})["initContainers"]
    assert sidecar["command"] == ["baton", "leader-label"]
    assert sidecar["restartPolicy"] == "Always"
