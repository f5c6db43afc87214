"""The rules that Baton's manifests keep, each as a function that names what breaks it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

from .kustomize import Manifest, containers_of, pod_of
from .manifest_network import OTHER, allows, isolated
from .manifest_sets import REPLICA, container_of, labels_of, of_kind, replica_of, settings_of, title, workloads

Rule = Callable[[list[Manifest]], Iterator[str]]

_SIDECAR = "leader-label"
_UNPRIVILEGED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_CLIENT, _PARTICIPANT = {"baton-client": "true"}, {"baton-participant": "true"}
_STRANGER = {"app": "stranger"}
_MIGRATION = {"app.kubernetes.io/name": "baton", "app.kubernetes.io/component": "migrate"}
_SECRET = re.compile(r"DSN|PASSWORD|TOKEN(?!_LISTEN$)|_USER$")
# After preStop comes the end of a term (6 s at most) and of calls under way.
_END_S = 20


def pods_run_without_rights(manifests: list[Manifest]) -> Iterator[str]:
    """Not as root, with the runtime's seccomp profile, nothing of the node's."""
    for workload in workloads(manifests):
        pod = pod_of(workload) or {}
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{title(workload)} may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{title(workload)} has no seccomp profile"
        if {"hostNetwork", "hostPID", "hostIPC"} & set(pod) or any("hostPath" in v for v in pod.get("volumes", [])):
            yield f"{title(workload)} shares something with its node"


def containers_have_no_privilege(manifests: list[Manifest]) -> Iterator[str]:
    """No capability, no way to more rights, a root file system that cannot be written."""
    for workload in workloads(manifests):
        for container in containers_of(workload):
            if container.get("securityContext") != _UNPRIVILEGED:
                yield f"{title(workload)}: {container['name']} has privileges"


def no_token_is_mounted(manifests: list[Manifest]) -> Iterator[str]:
    """No pod gets a token of Kubernetes; only the container that labels the leader mounts one, and it alone."""
    for account in of_kind(manifests, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{title(account)} mounts its token everywhere"
    for workload in workloads(manifests):
        pod = pod_of(workload) or {}
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{title(workload)} mounts a token"
        tokens = {
            volume["name"]
            for volume in pod.get("volumes", [])
            for source in volume.get("projected", {}).get("sources", [])
            if "serviceAccountToken" in source
        }
        for container in containers_of(workload):
            mounted = tokens & {mount["name"] for mount in container.get("volumeMounts", [])}
            if mounted and container["name"] != _SIDECAR:
                yield f"{title(workload)}: {container['name']} mounts a token"


def rights_are_those_of_the_label(manifests: list[Manifest]) -> Iterator[str]:
    """Who labels the leader's pod may patch pods of its namespace; without that, there are no rights at all."""
    labelled = any(
        container["name"] == _SIDECAR for workload in workloads(manifests) for container in containers_of(workload)
    )
    allowed = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]
    for manifest in manifests:
        if manifest["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            yield f"{title(manifest)} grants rights in the whole cluster"
        if manifest["kind"] in ("Role", "RoleBinding") and not labelled:
            yield f"{title(manifest)} grants rights that nobody needs"
        if manifest["kind"] == "Role" and manifest["rules"] != allowed:
            yield f"{title(manifest)} grants more than the label needs"


def containers_say_what_they_need(manifests: list[Manifest]) -> Iterator[str]:
    """CPU and memory are asked for, memory is bounded; no replica is throttled; images have a version."""
    for workload in workloads(manifests):
        for container in containers_of(workload):
            resources = container.get("resources", {})
            name = f"{title(workload)}: {container['name']}"
            if set(resources.get("requests", {})) != {"cpu", "memory"} or "memory" not in resources.get("limits", {}):
                yield f"{name} does not say what it needs"
            if "cpu" in resources.get("limits", {}):
                yield f"{name} is throttled, and would renew its lease late"
            if not re.search(r":(?!latest$)[\w.-]+$", container["image"]):
                yield f"{name} runs whatever version there is"


def replicas_are_probed(manifests: list[Manifest]) -> Iterator[str]:
    """Life is the heartbeat alone; readiness is for followers as well; a start may take its time."""
    probes = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    container = container_of(replica_of(manifests), "replica")
    # The port speaks one of both, and hangs up on whoever speaks the other.
    scheme = {"scheme": "HTTPS"} if "BATON_TLS_CERT_FILE" in settings_of(manifests) else {}
    for probe, path in probes.items():
        if container.get(probe, {}).get("httpGet") != {"path": path, "port": "http", **scheme}:
            yield f"{probe} does not ask {path}, or not as the port speaks"
    liveness = container.get("livenessProbe", {})
    if liveness.get("failureThreshold", 1) * liveness.get("periodSeconds", 0) < 10:
        yield "livenessProbe restarts a replica for a short pause"
    start = container.get("startupProbe", {})
    if start.get("failureThreshold", 1) * start.get("periodSeconds", 0) < 30:
        yield "startupProbe gives a start no time"


def replicas_hand_over_before_they_end(manifests: list[Manifest]) -> Iterator[str]:
    """preStop withdraws and waits for the Services to forget the pod, with time left for a proper end."""
    replica = replica_of(manifests)
    hook = container_of(replica, "replica").get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
    found = re.fullmatch(r"kill -USR1 1; sleep (\d+)", hook[-1]) if hook[:2] == ["sh", "-c"] else None
    if found is None:
        yield "preStop does not withdraw the replica and wait"
    elif (pod_of(replica) or {}).get("terminationGracePeriodSeconds", 30) < int(found[1]) + _END_S:
        yield "the grace period is too short for preStop and the end"


def updates_leave_no_gap(manifests: list[Manifest]) -> Iterator[str]:
    """Three replicas, a new one before an old one goes, and one at a time where nodes are drained."""
    spec = replica_of(manifests)["spec"]
    if spec.get("replicas", 1) < 3:
        yield "fewer than three replicas"
    if spec.get("strategy", {}).get("rollingUpdate") != {"maxSurge": 1, "maxUnavailable": 0}:
        yield "an update takes replicas away before new ones are there"
    if spec.get("minReadySeconds", 0) < 5:
        yield "an update does not wait until a new replica has stayed Ready"
    budgets = of_kind(manifests, "PodDisruptionBudget")
    if [b["spec"].get("maxUnavailable") for b in budgets if b["spec"]["selector"].get("matchLabels") == REPLICA] != [1]:
        yield "no budget: whoever drains nodes may take all replicas at once"


def replicas_are_spread(manifests: list[Manifest]) -> Iterator[str]:
    """Over machines and zones, counted for each revision by itself, so that an update fits on three machines."""
    pod = pod_of(replica_of(manifests)) or {}
    constraints = pod.get("topologySpreadConstraints", [])
    affinity = pod.get("affinity", {}).get("podAntiAffinity", {})
    apart = [term["podAffinityTerm"] for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])]
    apart += affinity.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone"):
        if key not in [constraint["topologyKey"] for constraint in constraints]:
            yield f"not spread over {key}"
    if "kubernetes.io/hostname" not in [term["topologyKey"] for term in apart]:
        yield "nothing keeps two replicas off one machine"
    for term in [*constraints, *apart]:
        if term["labelSelector"] != {"matchLabels": REPLICA} or term.get("matchLabelKeys") != ["pod-template-hash"]:
            yield f"{term['topologyKey']}: counts other pods than the replicas of one revision"


def nothing_connects_by_default(manifests: list[Manifest]) -> Iterator[str]:
    """Every pod accepts and opens what rules allow, and nothing else."""
    for workload in workloads(manifests):
        for direction in ("Ingress", "Egress"):
            if not isolated(manifests, labels_of(workload), direction):
                yield f"{title(workload)}: {direction} is open to everybody"


def what_is_needed_connects(manifests: list[Manifest]) -> Iterator[str]:
    """The connections without which Baton does not work, and those that would be a hole."""
    other = {"namespace": OTHER}
    tls = "BATON_TLS_CERT_FILE" in settings_of(manifests)
    for wanted, what, allowed in (
        (True, "a client reaches the API", allows(manifests, REPLICA, "Ingress", 7400, _CLIENT, **other)),
        (True, "a replica is reached by another one", allows(manifests, REPLICA, "Ingress", 7490, REPLICA)),
        (True, "a replica watches the leader", allows(manifests, REPLICA, "Egress", 7490, REPLICA)),
        (True, "a replica passes a wish on to the leader", allows(manifests, REPLICA, "Egress", 7400, REPLICA)),
        (True, "a replica calls a participant", allows(manifests, REPLICA, "Egress", 7501, _PARTICIPANT, **other)),
        (True, "a replica reaches etcd", allows(manifests, REPLICA, "Egress", 2379, None)),
        (True, "a replica reaches Postgres", allows(manifests, REPLICA, "Egress", 5432, None)),
        (True, "the migration reaches Postgres", allows(manifests, _MIGRATION, "Egress", 5432, None)),
        (False, "a stranger reaches the API", allows(manifests, REPLICA, "Ingress", 7400, _STRANGER)),
        (tls, "a client with a token reaches the API", allows(manifests, REPLICA, "Ingress", 7401, _CLIENT, **other)),
        (False, "a stranger reaches the API's port for tokens", allows(manifests, REPLICA, "Ingress", 7401, _STRANGER)),
        (False, "a client reaches the peer port", allows(manifests, REPLICA, "Ingress", 7490, _CLIENT)),
        (False, "another namespace's replica comes in", allows(manifests, REPLICA, "Ingress", 7490, REPLICA, **other)),
        (False, "a stranger reads the metrics", allows(manifests, REPLICA, "Ingress", 7480, _STRANGER)),
        (False, "a replica reaches whatever it likes", allows(manifests, REPLICA, "Egress", 8080, None)),
        (False, "the migration reaches etcd", allows(manifests, _MIGRATION, "Egress", 2379, None)),
        (False, "somebody reaches the migration", allows(manifests, _MIGRATION, "Ingress", 80, REPLICA)),
    ):
        if wanted is not allowed:
            yield f"{what}: {'forbidden' if wanted else 'allowed'}"


def secrets_are_referred_to(manifests: list[Manifest]) -> Iterator[str]:
    """What is secret comes from a Secret; a Secret that is given holds no password."""
    # The user of dev's own Postgres, which asks nobody for a password.
    harmless = {"name": "POSTGRES_USER", "value": "baton"}
    for workload in workloads(manifests):
        for variable in (variable for container in containers_of(workload) for variable in container.get("env", [])):
            told = "secretKeyRef" not in variable.get("valueFrom", {})
            if _SECRET.search(variable["name"]) and told and variable != harmless:
                yield f"{title(workload)}: {variable['name']} is written down"
    for secret in of_kind(manifests, "Secret"):
        values = [base64.b64decode(value).decode() for value in secret.get("data", {}).values()]
        for value in [*values, *secret.get("stringData", {}).values()]:
            if not re.fullmatch(r"postgresql://[a-z]+@[a-z]+:\d+/[a-z]+", value):
                yield f"{title(secret)} holds a secret"
    for config in of_kind(manifests, "ConfigMap"):
        if any(_SECRET.search(key) for key in config["data"]):
            yield f"{title(config)} holds a secret"


def the_migration_runs_once_for_each_release(manifests: list[Manifest]) -> Iterator[str]:
    """Named after the release that it migrates to, which is that of the replicas; it ends and goes away by itself."""
    (job,) = of_kind(manifests, "Job")
    image = containers_of(job)[0]["image"]
    release = image.rpartition(":")[2].replace(".", "-")
    if job["metadata"]["name"] != f"baton-migrate-{release}":
        yield f"{title(job)} is not named after the release {release}"
    if image != container_of(replica_of(manifests), "replica")["image"]:
        yield f"{title(job)} migrates to another release than the replicas are"
    spec = job["spec"]
    if not spec.get("backoffLimit") or not spec.get("activeDeadlineSeconds") or "ttlSecondsAfterFinished" not in spec:
        yield f"{title(job)} does not end, or stays for ever"
    if containers_of(job)[0].get("command") != ["baton", "migrate"]:
        yield f"{title(job)} does not migrate"


def images_are_of_one_release(manifests: list[Manifest]) -> Iterator[str]:
    """Every container of Baton's runs the image of the replicas."""
    image = container_of(replica_of(manifests), "replica")["image"]
    for workload in workloads(manifests):
        for container in containers_of(workload):
            command: list[Any] = container.get("command", [])
            if command and str(command[0]).startswith("baton") and container["image"] != image:
                yield f"{title(workload)}: {container['name']} runs {container['image']}, not {image}"


def namespaces_take_restricted_pods_alone(manifests: list[Manifest]) -> Iterator[str]:
    """A namespace of Baton's own refuses every pod that has privileges."""
    for namespace in of_kind(manifests, "Namespace"):
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{title(namespace)} takes pods with privileges"


RULES: tuple[Rule, ...] = (
    pods_run_without_rights,
    containers_have_no_privilege,
    no_token_is_mounted,
    rights_are_those_of_the_label,
    containers_say_what_they_need,
    replicas_are_probed,
    replicas_hand_over_before_they_end,
    updates_leave_no_gap,
    replicas_are_spread,
    nothing_connects_by_default,
    what_is_needed_connects,
    secrets_are_referred_to,
    the_migration_runs_once_for_each_release,
    images_are_of_one_release,
    namespaces_take_restricted_pods_alone,
)
