"""Renders a kustomization without kustomize: the few things that deploy/kubernetes uses, and an error for all others.

A test compares it with the real one where that is installed. Generated ConfigMaps and Secrets keep their plain names
here: kustomize adds a hash of their content.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

_FILES = ("kustomization.yaml", "Kustomization")
_KNOWN = {
    *("apiVersion", "kind", "namespace", "resources", "components", "patches", "images"),
    *("configMapGenerator", "secretGenerator"),
}
_KNOWN_OF_GENERATOR = {"name", "behavior", "envs", "files", "literals", "options"}
_CLUSTER_WIDE = {"Namespace"}
# The lists that a strategic merge merges by a key of their elements; every other list is replaced.
_MERGED_BY = {
    **dict.fromkeys(("containers", "initContainers", "volumes", "env"), "name"),
    "volumeMounts": "mountPath",
    "topologySpreadConstraints": "topologyKey",
    "ports": "port",
}
# Those of a container are called otherwise than those of a Service.
_MERGED_BY_OF_CONTAINER = {"ports": "containerPort"}


def render(folder: Path, components: Iterable[str] = ()) -> list[Manifest]:
    """All manifests of the kustomization in a folder, as if it listed these components as well."""
    return _build(folder, [], components)


def kustomization_of(folder: Path) -> Path:
    """The file that makes the folder a kustomization."""
    (path,) = (folder / name for name in _FILES if (folder / name).exists())
    return path


def manifests_in(path: Path) -> list[Manifest]:
    """The manifests of one file."""
    return [manifest for manifest in yaml.safe_load_all(path.read_text()) if manifest]


def pod_of(manifest: Manifest) -> Manifest | None:
    """The pod's spec of a workload, None for anything else."""
    spec = manifest.get("spec", {}).get("template", {}).get("spec")
    return spec if isinstance(spec, dict) else None


def containers_of(manifest: Manifest) -> list[dict[str, Any]]:
    """All containers of a workload; none of anything else."""
    pod = pod_of(manifest)
    return [] if pod is None else [*pod.get("initContainers", []), *pod["containers"]]


def _build(folder: Path, manifests: list[Manifest], components: Iterable[str] = ()) -> list[Manifest]:
    document = yaml.safe_load(kustomization_of(folder).read_text())
    if unknown := set(document) - _KNOWN:
        raise NotImplementedError(f"{folder}: this renderer does not know {unknown}")
    manifests = _generate(folder, document, [*manifests, *_resources(folder, document)])
    for component in [*(document.get("components") or []), *components]:
        manifests = _build(folder / component, manifests)
    for patch in document.get("patches") or []:
        if set(patch) != {"path"}:
            raise NotImplementedError(f"{folder}: patches are files here, not {patch}")
        for change in manifests_in(folder / patch["path"]):
            manifests = _patched(manifests, change)
    if "namespace" in document:
        manifests = [_in_namespace(manifest, document["namespace"]) for manifest in manifests]
    for image in document.get("images") or []:
        for container in (container for manifest in manifests for container in containers_of(manifest)):
            _name_image(container, image)
    return manifests


def _resources(folder: Path, document: Mapping[str, Any]) -> Iterable[Manifest]:
    for path in (folder / resource for resource in document.get("resources") or []):
        yield from _build(path, []) if path.is_dir() else manifests_in(path)


def _generate(folder: Path, document: Mapping[str, Any], manifests: list[Manifest]) -> list[Manifest]:
    for kind, encode in (("configMapGenerator", str), ("secretGenerator", _base64)):
        for generator in document.get(kind) or []:
            data = {key: encode(value) for key, value in _generated(folder, generator).items()}
            manifests = _with_generated(manifests, kind.removesuffix("Generator"), generator, data)
    return manifests


def _base64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _generated(folder: Path, generator: Mapping[str, Any]) -> dict[str, str]:
    if unknown := set(generator) - _KNOWN_OF_GENERATOR:
        raise NotImplementedError(f"{folder}: this renderer does not know {unknown}")
    pairs = list(generator.get("literals", []))
    for name in generator.get("envs", []):
        lines = (folder / name).read_text().splitlines()
        pairs += [line for line in lines if line and not line.startswith("#")]
    data = dict(pair.split("=", 1) for pair in pairs)
    return data | {Path(name).name: (folder / name).read_text() for name in generator.get("files", [])}


def _with_generated(
    manifests: list[Manifest], kind: str, generator: Mapping[str, Any], data: dict[str, str]
) -> list[Manifest]:
    kind = kind[0].upper() + kind[1:]
    if generator.get("behavior") == "merge":
        (found,) = (m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, generator["name"]))
        merged = {**found, "data": found["data"] | data}
        return [merged if manifest is found else manifest for manifest in manifests]
    new: Manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": generator["name"]}, "data": data}
    return [*manifests, {**new, "type": "Opaque"} if kind == "Secret" else new]


def _patched(manifests: list[Manifest], change: Manifest) -> list[Manifest]:
    def identity(manifest: Manifest) -> tuple[str, str, str]:
        return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]

    (found,) = (manifest for manifest in manifests if identity(manifest) == identity(change))
    return [_merged(manifest, change) if manifest is found else manifest for manifest in manifests]


def _merged(old: Any, new: Any, field: str = "") -> Any:
    """A strategic merge, without its directives."""
    if isinstance(old, dict) and isinstance(new, dict):
        kept = {key: value for key, value in old.items() if key not in new}
        changed = {key: _merged(old.get(key), value, key) for key, value in new.items() if value is not None}
        return kept | changed
    if isinstance(old, list) and isinstance(new, list) and field in _MERGED_BY:
        key = _MERGED_BY[field]
        if any(key not in element for element in old):
            key = _MERGED_BY_OF_CONTAINER[field]
        return list(_by_key([*old, *new], key))
    return copy.deepcopy(new)


def _by_key(elements: Iterable[dict[str, Any]], key: str) -> Iterable[dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for element in elements:
        merged[element[key]] = _merged(merged.get(element[key]), element)
    return merged.values()


def _in_namespace(manifest: Manifest, namespace: str) -> Manifest:
    if manifest["kind"] in _CLUSTER_WIDE:
        named = manifest["kind"] == "Namespace"
        return {**manifest, "metadata": manifest["metadata"] | ({"name": namespace} if named else {})}
    moved = {**manifest, "metadata": manifest["metadata"] | {"namespace": namespace}}
    if "subjects" in manifest:
        moved["subjects"] = [subject | {"namespace": namespace} for subject in manifest["subjects"]]
    return moved


def _name_image(container: dict[str, Any], image: Mapping[str, str]) -> None:
    name, _, tag = container["image"].rpartition(":")
    if name == image["name"]:
        container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"
