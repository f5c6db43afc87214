"""What a user would apply: each overlay, and each with everything that it can be given."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

from .kustomize import Manifest, containers_of, pod_of, render

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
DEFINITIONS = ROOT / "deploy" / "definitions"
OVERLAYS = KUBERNETES / "overlays"
SHOP = "../../components/shop-tls"
COMPONENTS = ("../../components/monitoring-tls", "../../components/leader-label", SHOP)

REPLICA = {"app.kubernetes.io/name": "baton", "app.kubernetes.io/component": "replica"}


def manifest_set(name: str) -> list[Manifest]:
    """One of SETS, a copy of its own, so that a test may break it."""
    return copy.deepcopy(_rendered(name))


@cache
def _rendered(name: str) -> list[Manifest]:
    if name == "complete":
        return render(OVERLAYS / "production", COMPONENTS)
    if name == "dev-complete":
        # It has the shop already.
        added = [component.replace("monitoring-tls", "monitoring") for component in COMPONENTS if component != SHOP]
        return render(OVERLAYS / "dev", added)
    return render(KUBERNETES / name)


SETS = ("base", "overlays/dev", "dev-complete", "overlays/production", "complete")
# What is for networks that others are in as well.
PRODUCTION = ("overlays/production", "complete")


def title(manifest: Manifest) -> str:
    """Kind and name."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """The manifests of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def workloads(manifests: list[Manifest]) -> list[Manifest]:
    """Whatever makes pods."""
    return [manifest for manifest in manifests if pod_of(manifest) is not None]


def labels_of(workload: Manifest) -> dict[str, str]:
    """The labels of a workload's pods."""
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert isinstance(labels, dict)
    return labels


def replica_of(manifests: list[Manifest]) -> Manifest:
    """The Deployment of replicas."""
    (replica,) = (
        manifest for manifest in of_kind(manifests, "Deployment") if labels_of(manifest).items() >= REPLICA.items()
    )
    return replica


def container_of(workload: Manifest, name: str) -> Manifest:
    """One container of a workload."""
    (container,) = (container for container in containers_of(workload) if container["name"] == name)
    return container


def settings_of(manifests: list[Manifest]) -> dict[str, str]:
    """The variables of the replicas: those of the ConfigMap, and those that the manifest gives itself."""
    (config,) = (c for c in of_kind(manifests, "ConfigMap") if c["metadata"]["name"] == "baton-settings")
    given = {v["name"]: v["value"] for v in container_of(replica_of(manifests), "replica")["env"] if "value" in v}
    return {**config["data"], **given}
