"""Who may connect to whom, by the NetworkPolicies of a set of manifests: what Kubernetes says about their meaning."""

from __future__ import annotations

from typing import Any

from .kustomize import Manifest
from .manifest_sets import of_kind

# Pods of the set's own namespace, of another one, and something that is no pod.
OWN, OTHER = "own", "other"


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a selector of labels matches; an empty one matches everything."""
    unknown = set(selector or {}) - {"matchLabels"}
    assert not unknown, f"a selector of a kind that is not known here: {unknown}"
    wanted: dict[str, str] = (selector or {}).get("matchLabels", {})
    return wanted.items() <= labels.items()


def isolated(manifests: list[Manifest], labels: dict[str, str], direction: str) -> bool:
    """Whether a pod with these labels accepts ("Ingress") or opens ("Egress") nothing but what rules allow."""
    return any(
        selects(policy["spec"]["podSelector"], labels) and direction in policy["spec"]["policyTypes"]
        for policy in of_kind(manifests, "NetworkPolicy")
    )


def allows(
    manifests: list[Manifest],
    labels: dict[str, str],
    direction: str,
    port: int,
    peer: dict[str, str] | None,
    namespace: str = OWN,
) -> bool:
    """Whether a pod may connect to (or be reached by) a peer with these labels at a TCP port; no labels: no pod."""
    if not isolated(manifests, labels, direction):
        return True
    side = "from" if direction == "Ingress" else "to"
    return any(
        _port_matches(rule, port) and (side not in rule or any(_is(one, peer, namespace) for one in rule[side]))
        for policy in of_kind(manifests, "NetworkPolicy")
        if selects(policy["spec"]["podSelector"], labels)
        for rule in policy["spec"].get(direction.lower(), [])
    )


def _port_matches(rule: dict[str, Any], port: int) -> bool:
    if "ports" not in rule:
        return True
    return any(
        one["protocol"] == "TCP" and one["port"] <= port <= one.get("endPort", one["port"]) for one in rule["ports"]
    )


def _is(side: dict[str, Any], peer: dict[str, str] | None, namespace: str) -> bool:
    """Whether one side of a rule matches the peer."""
    if peer is None or "ipBlock" in side:
        return False
    if "namespaceSelector" in side:
        wanted = side["namespaceSelector"].get("matchLabels", {})
        if wanted and namespace != wanted.get("kubernetes.io/metadata.name"):
            return False
    elif namespace != OWN:
        return False
    return selects(side.get("podSelector"), peer)
