"""The Kubernetes manifests: their schemas, offline, and the rules that Baton's own deployment must keep."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.config import Settings
from participants.settings import ParticipantSettings

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
DEFINITIONS = ROOT / "deploy" / "definitions"
SCHEMAS = ROOT / "tests" / "schemas"
KUSTOMIZATIONS = ("kustomization.yaml", "Kustomization")

Manifest = dict[str, Any]


def _manifests() -> Iterator[tuple[str, Manifest]]:
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name not in KUSTOMIZATIONS:
            for manifest in yaml.safe_load_all(path.read_text()):
                name = f"{path.relative_to(KUBERNETES)}:{manifest['kind']}/{manifest['metadata']['name']}"
                yield name, manifest


MANIFESTS = dict(_manifests())
WORKLOADS = {name: manifest for name, manifest in MANIFESTS.items() if "template" in manifest.get("spec", {})}
DEPLOYMENTS = {name: manifest for name, manifest in WORKLOADS.items() if manifest["kind"] == "Deployment"}
REPLICA = next(manifest for name, manifest in DEPLOYMENTS.items() if name.startswith("orchestrator/replica.yaml"))


def _pod(workload: Manifest) -> Manifest:
    pod = workload["spec"]["template"]["spec"]
    assert isinstance(pod, dict)
    return pod


def _labels(workload: Manifest) -> dict[str, str]:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert isinstance(labels, dict)
    return labels


def _selects(selector: dict[str, str], workload: Manifest) -> bool:
    return selector.items() <= _labels(workload).items()


def validator_of(api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    """The validator of one kind, by the vendored schemas of Kubernetes."""
    document = json.loads((SCHEMAS / "kubernetes.json").read_text())
    definition = document["kinds"].get(f"{api_version}/{kind}")
    assert definition is not None, f"{api_version}/{kind} is not vendored: add it to tests/schemas/extract.py"
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{definition}", "$defs": document["$defs"]})


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_keeps_the_schema_of_its_kind(name: str) -> None:
    manifest = MANIFESTS[name]
    errors = list(validator_of(manifest["apiVersion"], manifest["kind"]).iter_errors(manifest))
    assert not errors, [f"{error.json_path}: {error.message}" for error in errors]


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
def test_schema_refuses_a_broken_replica(path: tuple[str | int, ...], value: object) -> None:
    broken = json.loads(json.dumps(REPLICA))
    at = broken
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert not validator_of("apps/v1", "Deployment").is_valid(broken)


def test_kustomizations_name_every_file_and_no_other() -> None:
    for path in (path for name in KUSTOMIZATIONS for path in (ROOT / "deploy").rglob(name)):
        document = yaml.safe_load(path.read_text())
        resources = {(path.parent / resource).resolve() for resource in document.get("resources", [])}
        assert all(resource.exists() for resource in resources), path
        manifests = {file for file in path.parent.glob("*.yaml") if file != path and "example" not in file.name}
        if path.parent == DEFINITIONS:
            (generator,) = document["configMapGenerator"]
            assert {path.parent / file for file in generator["files"]} == manifests
        else:
            assert {resource for resource in resources if resource.is_file()} == manifests, path


def test_no_kustomization_is_taken_for_a_definition() -> None:
    assert not [path for path in DEFINITIONS.glob("*.yaml") if "steps" not in yaml.safe_load(path.read_text())]


@pytest.mark.parametrize("name", WORKLOADS)
def test_containers_run_without_rights(name: str) -> None:
    pod = _pod(WORKLOADS[name])
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 10001
    assert context["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("name", WORKLOADS)
def test_containers_say_what_they_need_and_are_pinned(name: str) -> None:
    for container in _pod(WORKLOADS[name])["containers"]:
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert re.search(r":(?!latest$)[\w.-]+$", container["image"]), container["image"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_deployments_are_probed_on_ports_that_they_have(name: str) -> None:
    for container in _pod(DEPLOYMENTS[name])["containers"]:
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            action = next(value for key, value in container[probe].items() if key in ("httpGet", "grpc", "tcpSocket"))
            assert action["port"] in (*ports, *ports.values())


def test_a_follower_is_ready_and_a_replica_that_waits_is_not_restarted() -> None:
    (container,) = _pod(REPLICA)["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"


def test_three_replicas_and_no_gap_in_a_rolling_update() -> None:
    assert REPLICA["spec"]["replicas"] == 3
    assert REPLICA["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_selects_its_own_pods_and_nobody_elses(name: str) -> None:
    selector = DEPLOYMENTS[name]["spec"]["selector"]["matchLabels"]
    assert [other for other, workload in WORKLOADS.items() if _selects(selector, workload)] == [name]


def _selectors() -> Iterator[tuple[str, dict[str, str]]]:
    for name, manifest in MANIFESTS.items():
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "Service":
                yield name, spec["selector"]
            case "PodDisruptionBudget":
                yield name, spec["selector"]["matchLabels"]
            case "NetworkPolicy":
                yield name, spec["podSelector"]["matchLabels"]


@pytest.mark.parametrize(("name", "selector"), list(_selectors()))
def test_services_budgets_and_policies_match_the_pods_of_one_deployment(name: str, selector: dict[str, str]) -> None:
    (workload,) = (workload for workload in WORKLOADS.values() if _selects(selector, workload))
    manifest = MANIFESTS[name]
    if manifest["kind"] == "Service":
        ports = {port["name"] for port in _pod(workload)["containers"][0]["ports"]}
        assert {port["targetPort"] for port in manifest["spec"]["ports"]} <= ports
    else:
        assert workload is REPLICA


def test_a_drain_takes_one_replica_at_a_time() -> None:
    (budget,) = (manifest for manifest in MANIFESTS.values() if manifest["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("name", MANIFESTS)
def test_secrets_are_referred_to_and_never_given(name: str) -> None:
    manifest = MANIFESTS[name]
    if manifest["kind"] == "Secret":
        assert "example" in name
        assert "data" not in manifest
        assert all("USER:PASSWORD@HOST" in value for value in manifest["stringData"].values())
        return
    for variable in environment_of(manifest):
        if re.search(r"DSN|PASSWORD|_USER", variable["name"]):
            assert "secretKeyRef" in variable.get("valueFrom", {}), variable


def environment_of(manifest: Manifest) -> list[dict[str, Any]]:
    """The environment of all containers of a manifest; none, if it has none."""
    if "template" not in manifest.get("spec", {}):
        return []
    return [variable for container in _pod(manifest)["containers"] for variable in container.get("env", [])]


def known_names() -> set[str]:
    """Every name that a program of Baton reads from its environment."""
    replica = {f"BATON_{name}".upper() for name in Settings.model_fields}
    participant = {f"PARTICIPANT_{name}".upper() for name in ParticipantSettings.model_fields}
    return replica | participant | addresses() | {"PGPASSWORD"}


def addresses() -> set[str]:
    """The names by which the definitions call their services."""
    return {name for path in DEFINITIONS.glob("*.yaml") for name in re.findall(r"\$\{(\w+)", path.read_text())}


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_variable_is_a_setting_that_exists(name: str) -> None:
    variables = environment_of(WORKLOADS[name])
    # POD_IP is there for the others to be made of.
    assert {variable["name"] for variable in variables} - {"POD_IP"} <= known_names()
    defined: set[str] = set()
    for variable in variables:
        assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= defined, variable
        defined.add(variable["name"])


def test_settings_file_holds_settings_that_fit_together() -> None:
    lines = (KUBERNETES / "orchestrator" / "settings.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(given) <= known_names()
    assert not [name for name in given if re.search(r"DSN|PASSWORD", name)]
    Settings.model_validate({name.removeprefix("BATON_").lower(): value for name, value in given.items()})


def test_the_sample_shop_has_every_address_that_its_definitions_ask_for() -> None:
    document = yaml.safe_load((KUBERNETES / "participants" / "kustomization.yaml").read_text())
    (generator,) = document["configMapGenerator"]
    given = dict(literal.split("=", 1) for literal in generator["literals"])
    assert set(given) == addresses()
    ports = {
        manifest["metadata"]["name"]: manifest["spec"]["ports"][0]["port"]
        for name, manifest in MANIFESTS.items()
        if name.startswith("participants/") and manifest["kind"] == "Service"
    }
    assert {f"{name}:{port}" for name, port in ports.items()} == set(given.values())
