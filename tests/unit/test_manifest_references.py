"""What the manifests refer to is there: Secrets with examples, ConfigMaps, volumes, and settings that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from orchestrator.config import Settings
from participants.settings import ParticipantSettings

from .kustomize import Manifest, containers_of, manifests_in, pod_of
from .manifest_sets import DEFINITIONS, KUBERNETES, SETS, manifest_set, of_kind, title, workloads

WORKLOADS = [(name, title(workload)) for name in SETS for workload in workloads(manifest_set(name))]


def manifest(name: str, titled: str) -> Manifest:
    """One manifest of a set."""
    (found,) = (manifest for manifest in manifest_set(name) if title(manifest) == titled)
    return found


def _secret_references(manifests: list[Manifest]) -> Iterator[tuple[str, str | None]]:
    """Secrets that workloads refer to, with the key, or None where all of a Secret is mounted."""
    for workload in workloads(manifests):
        for variable in (variable for container in containers_of(workload) for variable in container.get("env", [])):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield reference["name"], reference["key"]
        for volume in (pod_of(workload) or {}).get("volumes", []):
            if "secret" in volume:
                yield volume["secret"]["secretName"], None
    for endpoint in (e for monitor in of_kind(manifests, "ServiceMonitor") for e in monitor["spec"]["endpoints"]):
        for reference in (
            endpoint.get("tlsConfig", {}).get("ca", {}).get("secret"),
            *endpoint.get("authorization", {}).values(),
        ):
            if isinstance(reference, dict):
                yield reference["name"], reference["key"]


@pytest.mark.parametrize("name", SETS)
def test_every_secret_has_an_example_that_holds_nothing(name: str) -> None:
    examples = {secret["metadata"]["name"]: secret for secret in manifests_in(KUBERNETES / "examples" / "secrets.yaml")}
    for secret, key in _secret_references(manifest_set(name)):
        assert secret in examples
        assert key is None or key in examples[secret]["stringData"]
    for example in examples.values():
        assert "data" not in example
        assert all(re.search(r"USER|PASSWORD|PEM|TOKEN", value) for value in example["stringData"].values())


@pytest.mark.parametrize("name", SETS)
def test_every_config_map_is_there_or_optional(name: str) -> None:
    manifests = manifest_set(name)
    # Kubernetes itself puts its authority into every namespace.
    there = {config["metadata"]["name"] for config in of_kind(manifests, "ConfigMap")} | {"kube-root-ca.crt"}
    for workload in workloads(manifests):
        references = [e["configMapRef"] for c in containers_of(workload) for e in c.get("envFrom", [])]
        references += [v["configMap"] for v in (pod_of(workload) or {}).get("volumes", []) if "configMap" in v]
        assert {ref["name"] for ref in references if not ref.get("optional")} <= there


@pytest.mark.parametrize(("name", "titled"), WORKLOADS)
def test_what_is_mounted_is_a_volume_of_the_pod(name: str, titled: str) -> None:
    workload = manifest(name, titled)
    volumes = {volume["name"] for volume in (pod_of(workload) or {}).get("volumes", [])}
    mounted = {mount["name"] for container in containers_of(workload) for mount in container.get("volumeMounts", [])}
    assert mounted == volumes


def known_names() -> set[str]:
    """Every name that a program of Baton reads from its environment."""
    replica = {f"BATON_{name}".upper() for name in Settings.model_fields}
    participant = {f"PARTICIPANT_{name}".upper() for name in ParticipantSettings.model_fields}
    client = {f"BATON_{name}" for name in ("ENDPOINTS", "CA_FILE", "CERT_FILE", "KEY_FILE")}
    return replica | participant | client | addresses() | {"PGPASSWORD"}


def addresses() -> set[str]:
    """The names by which the definitions call their services."""
    return {name for path in DEFINITIONS.glob("*.yaml") for name in re.findall(r"\$\{(\w+)", path.read_text())}


@pytest.mark.parametrize(("name", "titled"), WORKLOADS)
def test_every_variable_is_a_setting_that_exists(name: str, titled: str) -> None:
    for container in containers_of(manifest(name, titled)):
        variables = container.get("env", [])
        if not str(container.get("command", [""])[0]).startswith("baton"):
            continue
        # POD_IP is there for the others to be made of; the sidecar has two options of its own.
        own = {"POD_NAME", "POD_NAMESPACE"} if container["name"] == "leader-label" else {"POD_IP"}
        assert {variable["name"] for variable in variables} - own <= known_names()
        defined: set[str] = set()
        for variable in variables:
            assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= defined, variable
            defined.add(variable["name"])


@pytest.mark.parametrize("name", SETS)
def test_settings_are_settings_that_fit_together(name: str) -> None:
    (config,) = (c for c in of_kind(manifest_set(name), "ConfigMap") if c["metadata"]["name"] == "baton-settings")
    given = config["data"]
    assert set(given) <= known_names()
    assert not [key for key in given if re.search(r"DSN|PASSWORD", key)]
    Settings.model_validate({key.removeprefix("BATON_").lower(): value for key, value in given.items()})


def test_the_sample_shop_has_every_address_that_its_definitions_ask_for() -> None:
    document = yaml.safe_load((KUBERNETES / "participants" / "kustomization.yaml").read_text())
    (generator,) = document["configMapGenerator"]
    given = dict(literal.split("=", 1) for literal in generator["literals"])
    assert set(given) == addresses()
    participants = [m for path in sorted((KUBERNETES / "participants").glob("*.yaml")) for m in manifests_in(path)]
    ports = {m["metadata"]["name"]: m["spec"]["ports"][0]["port"] for m in of_kind(participants, "Service")}
    assert {f"{name}:{port}" for name, port in ports.items()} == set(given.values())
