"""The rules of TLS that manifests for production keep: nothing in the clear, every caller asked who he is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import PurePosixPath

from .kustomize import Manifest, containers_of, pod_of
from .manifest_rules import Rule
from .manifest_sets import of_kind, replica_of, settings_of, title, workloads

_TLS = ("BATON_TLS_CERT_FILE", "BATON_TLS_KEY_FILE", "BATON_TLS_CA_FILE")
_ETCD = ("BATON_ETCD_CA_FILE", "BATON_ETCD_CERT_FILE", "BATON_ETCD_KEY_FILE")
_PARTICIPANT = ("PARTICIPANT_TLS_CERT_FILE", "PARTICIPANT_TLS_KEY_FILE", "PARTICIPANT_TLS_CA_FILE")
_OFF = ("", "0", "false")


def every_link_speaks_tls(manifests: list[Manifest]) -> Iterator[str]:
    """The replicas' ports, and what they connect to: each other, participants, etcd, the collector, the broker."""
    settings = settings_of(manifests)
    for name in (*_TLS, *_ETCD):
        if not settings.get(name):
            yield f"{name} is not set: a link is in the clear"
    if not settings.get("BATON_TLS_REPLICA_NAME"):
        yield "replicas reach each other by addresses that stand in no certificate, and no name is asked for"
    if settings.get("BATON_INSECURE_LISTEN", "").lower() not in _OFF:
        yield "BATON_INSECURE_LISTEN lets replicas listen in the clear"
    if settings.get("BATON_PARTICIPANT_TLS", "1").lower() in _OFF or settings.get("BATON_PARTICIPANT_PLAIN"):
        yield "participants are called in the clear"
    for name, scheme in (("BATON_TRACING_ENDPOINT", "http://"), ("BATON_EVENTS_BROKER", "nats://")):
        if scheme in settings.get(name, ""):
            yield f"{name} is in the clear"


def callers_are_asked(manifests: list[Manifest]) -> Iterator[str]:
    """A file says who may do what, and is there."""
    if not settings_of(manifests).get("BATON_ACCESS_FILE"):
        yield "BATON_ACCESS_FILE is not set: nobody is asked who he is"


def files_are_mounted_from_what_must_be_there(manifests: list[Manifest]) -> Iterator[str]:
    """Every file that a setting names lies in a volume made of a Secret or a ConfigMap without which no pod starts.

    A folder, not a single file of it: what is mounted by `subPath` is never renewed.
    """
    replica = replica_of(manifests)
    volumes = {volume["name"]: volume for volume in (pod_of(replica) or {}).get("volumes", [])}
    files = {name: path for name, path in settings_of(manifests).items() if name.endswith("_FILE")}
    # Whatever is told of all settings: a command of baton opens the files that a variable names, and ends without them.
    told = [c for c in containers_of(replica) if {"configMapRef": {"name": "baton-settings"}} in c.get("envFrom", [])]
    for container, (name, path) in itertools.product(told, files.items()):
        mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
        mount = mounts.get(str(PurePosixPath(path).parent))
        if mount is None or "subPath" in mount:
            yield f"{name}: no folder is mounted into {container['name']} that has {path}"
            continue
        volume = volumes.get(mount["name"], {})
        source = volume.get("secret") or volume.get("configMap")
        if source is None or source.get("optional"):
            yield f"{name}: {path} may not be there"
        elif "configMap" in volume and name != "BATON_ACCESS_FILE":
            yield f"{name}: {path} comes from a ConfigMap, not from a Secret"


def the_way_to_postgres_has_its_files(manifests: list[Manifest]) -> Iterator[str]:
    """Whatever connects to Postgres has the folder that `sslrootcert` in its DSN names, also the migration."""
    for workload in workloads(manifests):
        for container in containers_of(workload):
            if "BATON_DSN" not in [variable["name"] for variable in container.get("env", [])]:
                continue
            if "/etc/baton/postgres" not in [mount["mountPath"] for mount in container.get("volumeMounts", [])]:
                yield f"{title(workload)}: {container['name']} has no authority for Postgres' certificate"


def metrics_are_read_over_tls(manifests: list[Manifest]) -> Iterator[str]:
    """Prometheus checks the certificate, shows a token, and both come from Secrets."""
    template = replica_of(manifests)["spec"]["template"]["metadata"]
    if template.get("annotations", {}).get("prometheus.io/scheme") != "https":
        yield "the pods' annotation says http"
    for monitor in of_kind(manifests, "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            tls = endpoint.get("tlsConfig", {})
            if endpoint.get("scheme") != "https" or tls.get("insecureSkipVerify"):
                yield f"{title(monitor)} reads in the clear, or from anybody"
            if tls.get("serverName") != settings_of(manifests).get("BATON_TLS_REPLICA_NAME"):
                yield f"{title(monitor)} asks for another name than the replicas' certificate is for"
            if "secret" not in tls.get("ca", {}):
                yield f"{title(monitor)} does not know the replicas' authority"
            if "credentials" not in endpoint.get("authorization", {}):
                yield f"{title(monitor)} does not say who it is"


def services_do_not_say_that_they_are_in_the_clear(manifests: list[Manifest]) -> Iterator[str]:
    """`h2c` is HTTP/2 without TLS: a gateway that believes it meets a port that hangs up."""
    for service in of_kind(manifests, "Service"):
        if any(port.get("appProtocol") == "kubernetes.io/h2c" for port in service["spec"]["ports"]):
            yield f"{title(service)} says h2c"


def participants_speak_tls(manifests: list[Manifest]) -> Iterator[str]:
    """Participants that are deployed with it show a certificate, and obey replicas alone."""
    for workload in workloads(manifests):
        for container in containers_of(workload):
            given = {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}
            if "PARTICIPANT_LISTEN" not in given:
                continue
            if not all(given.get(name) for name in (*_PARTICIPANT, "PARTICIPANT_TLS_CALLERS")):
                yield f"{title(workload)}: {container['name']} listens in the clear"
            if "grpc" in container.get("readinessProbe", {}):
                yield f"{title(workload)}: Kubernetes' gRPC probe speaks no TLS"


TLS_RULES: tuple[Rule, ...] = (
    every_link_speaks_tls,
    callers_are_asked,
    files_are_mounted_from_what_must_be_there,
    the_way_to_postgres_has_its_files,
    metrics_are_read_over_tls,
    services_do_not_say_that_they_are_in_the_clear,
    participants_speak_tls,
)
