"""The rules of Baton's manifests hold in every overlay, and each of them notices what breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from . import manifest_rules as rules
from .kustomize import Manifest, containers_of, pod_of
from .manifest_rules import RULES, Rule
from .manifest_sets import SETS, container_of, manifest_set, of_kind, replica_of

Breakage = Callable[[list[Manifest]], object]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_manifests_keep_the_rule(name: str, rule: Rule) -> None:
    assert list(rule(manifest_set(name))) == []


def _pod(manifests: list[Manifest]) -> dict[str, Any]:
    pod = pod_of(replica_of(manifests))
    assert pod is not None
    return pod


def _container(manifests: list[Manifest]) -> dict[str, Any]:
    return container_of(replica_of(manifests), "replica")


def _named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (manifest,) = (manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name)
    return manifest


def _job(manifests: list[Manifest]) -> Manifest:
    (job,) = of_kind(manifests, "Job")
    return job


def _mount_the_token_into_the_replica(manifests: list[Manifest]) -> None:
    _container(manifests)["volumeMounts"].append({"name": "kubernetes-token", "mountPath": "/token"})


def _a_secret(value: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"dsn": value}}


def _a_role(kind: str) -> Manifest:
    return {"kind": kind, "metadata": {"name": "r"}, "rules": [{"resources": ["secrets"], "verbs": ["get"]}]}


def _without_policy(name: str) -> Breakage:
    def breaks(manifests: list[Manifest]) -> None:
        manifests.remove(_named(manifests, "NetworkPolicy", name))

    return breaks


def _rule_of(manifests: list[Manifest], direction: str) -> list[dict[str, Any]]:
    rules_of: list[dict[str, Any]] = _named(manifests, "NetworkPolicy", "baton")["spec"][direction]
    return rules_of


# Each rule, and ways to break it, in the set that has everything.
BREAKAGES: tuple[tuple[Rule, str, Breakage], ...] = (
    (rules.pods_run_without_rights, "root", lambda m: _pod(m)["securityContext"].pop("runAsNonRoot")),
    (rules.pods_run_without_rights, "user 0", lambda m: _pod(m)["securityContext"].update(runAsUser=0)),
    (rules.pods_run_without_rights, "no seccomp", lambda m: _pod(m)["securityContext"].pop("seccompProfile")),
    (rules.pods_run_without_rights, "the node's network", lambda m: _pod(m).update(hostNetwork=True)),
    (
        rules.pods_run_without_rights,
        "the node's files",
        lambda m: _pod(m)["volumes"].append({"name": "v", "hostPath": {"path": "/"}}),
    ),
    (rules.containers_have_no_privilege, "none said", lambda m: _container(m).pop("securityContext")),
    (
        rules.containers_have_no_privilege,
        "writable root",
        lambda m: _container(m)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    (
        rules.containers_have_no_privilege,
        "capabilities",
        lambda m: containers_of(_job(m))[0]["securityContext"].pop("capabilities"),
    ),
    (rules.no_token_is_mounted, "by the pod", lambda m: _pod(m).update(automountServiceAccountToken=True)),
    (
        rules.no_token_is_mounted,
        "by the account",
        lambda m: _named(m, "ServiceAccount", "baton").pop("automountServiceAccountToken"),
    ),
    (rules.no_token_is_mounted, "into the replica", _mount_the_token_into_the_replica),
    (rules.rights_are_those_of_the_label, "cluster-wide", lambda m: m.append(_a_role("ClusterRole"))),
    (rules.rights_are_those_of_the_label, "more", lambda m: m.append(_a_role("Role"))),
    (rules.rights_are_those_of_the_label, "for nobody", lambda m: _pod(m).pop("initContainers")),
    (rules.containers_say_what_they_need, "nothing", lambda m: _container(m).pop("resources")),
    (rules.containers_say_what_they_need, "no bound", lambda m: _container(m)["resources"].pop("limits")),
    (rules.containers_say_what_they_need, "throttled", lambda m: _container(m)["resources"]["limits"].update(cpu="1")),
    (rules.containers_say_what_they_need, "latest", lambda m: _container(m).update(image="baton:latest")),
    (rules.containers_say_what_they_need, "no tag", lambda m: _container(m).update(image="r.example:5000/baton")),
    (rules.replicas_are_probed, "no liveness", lambda m: _container(m).pop("livenessProbe")),
    (
        rules.replicas_are_probed,
        "liveness asks etcd",
        lambda m: _container(m)["livenessProbe"]["httpGet"].update(path="/readyz"),
    ),
    (
        rules.replicas_are_probed,
        "only the leader is Ready",
        lambda m: _container(m)["readinessProbe"]["httpGet"].update(path="/leaderz"),
    ),
    (rules.replicas_are_probed, "impatient", lambda m: _container(m)["livenessProbe"].update(failureThreshold=1)),
    (rules.replicas_are_probed, "no start-up", lambda m: _container(m)["startupProbe"].update(failureThreshold=3)),
    (rules.replicas_hand_over_before_they_end, "no hook", lambda m: _container(m).pop("lifecycle")),
    (
        rules.replicas_hand_over_before_they_end,
        "only sleeps",
        lambda m: _container(m)["lifecycle"]["preStop"]["exec"].update(command=["sh", "-c", "sleep 5"]),
    ),
    (
        rules.replicas_hand_over_before_they_end,
        "no grace",
        lambda m: _pod(m).update(terminationGracePeriodSeconds=10),
    ),
    (rules.updates_leave_no_gap, "one replica", lambda m: replica_of(m)["spec"].update(replicas=1)),
    (rules.updates_leave_no_gap, "recreated", lambda m: replica_of(m)["spec"].update(strategy={"type": "Recreate"})),
    (rules.updates_leave_no_gap, "hasty", lambda m: replica_of(m)["spec"].pop("minReadySeconds")),
    (rules.updates_leave_no_gap, "no budget", lambda m: m.remove(_named(m, "PodDisruptionBudget", "baton"))),
    (
        rules.updates_leave_no_gap,
        "two at a time",
        lambda m: _named(m, "PodDisruptionBudget", "baton")["spec"].update(maxUnavailable=2),
    ),
    (rules.replicas_are_spread, "anywhere", lambda m: _pod(m).pop("topologySpreadConstraints")),
    (rules.replicas_are_spread, "one zone", lambda m: _pod(m)["topologySpreadConstraints"].pop()),
    (rules.replicas_are_spread, "together", lambda m: _pod(m).pop("affinity")),
    (
        rules.replicas_are_spread,
        "all revisions",
        lambda m: _pod(m)["topologySpreadConstraints"][0].pop("matchLabelKeys"),
    ),
    (
        rules.nothing_connects_by_default,
        "no policies",
        lambda m: [m.remove(policy) for policy in of_kind(m, "NetworkPolicy")],
    ),
    (rules.what_is_needed_connects, "no policy of replicas", _without_policy("baton")),
    (rules.what_is_needed_connects, "no policy of the migration", _without_policy("baton-migrate")),
    (rules.what_is_needed_connects, "everybody's API", lambda m: _rule_of(m, "ingress")[0].pop("from")),
    (rules.what_is_needed_connects, "everybody's peer port", lambda m: _rule_of(m, "ingress")[1].pop("from")),
    (rules.what_is_needed_connects, "every way out", lambda m: _rule_of(m, "egress").append({})),
    (rules.what_is_needed_connects, "no participants", lambda m: _rule_of(m, "egress").pop(1)),
    (
        rules.secrets_are_referred_to,
        "a password in the environment",
        lambda m: _container(m)["env"].append({"name": "BATON_ETCD_PASSWORD", "value": "x"}),
    ),
    (rules.secrets_are_referred_to, "a password in a Secret", lambda m: m.append(_a_secret("postgresql://a:b@c:1/d"))),
    (
        rules.secrets_are_referred_to,
        "a password in a ConfigMap",
        lambda m: _named(m, "ConfigMap", "baton-settings")["data"].update(BATON_DSN="x"),
    ),
    (
        rules.the_migration_runs_once_for_each_release,
        "one name for all",
        lambda m: _job(m)["metadata"].update(name="baton-migrate"),
    ),
    (
        rules.the_migration_runs_once_for_each_release,
        "another release",
        lambda m: containers_of(_job(m))[0].update(image="baton:0.0.9"),
    ),
    (
        rules.the_migration_runs_once_for_each_release,
        "for ever",
        lambda m: _job(m)["spec"].pop("activeDeadlineSeconds"),
    ),
    (
        rules.the_migration_runs_once_for_each_release,
        "something else",
        lambda m: containers_of(_job(m))[0].update(command=["true"]),
    ),
    (
        rules.images_are_of_one_release,
        "a sidecar of another",
        lambda m: container_of(replica_of(m), "leader-label").update(image="baton:0.0.9"),
    ),
    (
        rules.namespaces_take_restricted_pods_alone,
        "any pods",
        lambda m: _named(m, "Namespace", "baton")["metadata"].pop("labels"),
    ),
)


@pytest.mark.parametrize(
    ("rule", "breaks"),
    [(rule, breaks) for rule, _, breaks in BREAKAGES],
    ids=[f"{rule.__name__}: {what}" for rule, what, _ in BREAKAGES],
)
def test_the_rule_notices(rule: Rule, breaks: Breakage) -> None:
    manifests = manifest_set("complete")
    breaks(manifests)
    assert list(rule(manifests))


def test_every_rule_is_broken_by_something() -> None:
    assert {rule for rule, _, _ in BREAKAGES} == set(RULES)
