"""What production's manifests say, tried on real replicas: their settings, probes, scrape and command line over TLS.

The variables are those that Kubernetes would give; only addresses and the folders of what is mounted are of this
machine. Replicas reach each other by addresses that stand in no certificate, as pods do.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.embedded.authority import Authority, Certificate
from orchestrator.embedded.etcd import EtcdCluster, EtcdTls
from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, inherited_environment
from orchestrator.leader_label import leads, page_beside
from orchestrator.security.tokens import token_hash
from tests.unit.kustomize import manifests_in
from tests.unit.manifest_sets import KUBERNETES, container_of, manifest_set, of_kind, replica_of, settings_of

SOON_S = 60.0
TOKEN = "prometheus-token-that-nobody-guesses"
HOSTS = ("127.0.0.2", "127.0.0.3")
PORTS = (7400, 7401, 7480, 7490)


@dataclass(frozen=True, slots=True)
class Live:
    """Two replicas, by the variables of each; and the folder of what is mounted."""

    folder: Path
    variables: tuple[dict[str, str], ...]

    @property
    def http(self) -> list[str]:
        """The address of each."""
        return [variables["BATON_HTTP_ADVERTISE"] for variables in self.variables]


def mounted(folder: Path, authority: Authority) -> None:
    """What the volumes hold: certificates as cert-manager's example asks for, and the file of callers."""
    certificates = manifests_in(KUBERNETES / "examples" / "cert-manager.yaml")
    (own,) = (c["spec"] for c in certificates if c["spec"].get("secretName") == "baton-tls")
    asked = [*own["dnsNames"], *own["ipAddresses"]]
    for name, certificate in (
        ("tls", authority.issue(asked[0], asked[1:])),
        ("etcd", authority.issue("baton-etcd", [])),
    ):
        _as_secret(folder / name, authority, certificate)
    (config,) = (c for c in of_kind(manifest_set("complete"), "ConfigMap") if c["metadata"]["name"] == "baton-access")
    callers = yaml.safe_load(config["data"]["access.yaml"])
    callers["callers"].append({"name": "prometheus", "token_sha256": token_hash(TOKEN), "roles": ["metrics"]})
    (folder / "access").mkdir()
    (folder / "access" / "access.yaml").write_text(yaml.safe_dump(callers))


def _as_secret(folder: Path, authority: Authority, certificate: Certificate) -> None:
    folder.mkdir()
    for source, key in (
        (authority.ca_file, "ca.crt"),
        (certificate.cert_file, "tls.crt"),
        (certificate.key_file, "tls.key"),
    ):
        shutil.copy(source, folder / key)


def variables_of(number: int, folder: Path, ports: Sequence[int], own: Mapping[str, str]) -> dict[str, str]:
    """Those of the manifest, with this machine's addresses and folders."""
    given = {**settings_of(manifest_set("complete")), **own, "BATON_REPLICA": f"baton-{number}"}
    given.pop("BATON_DEFINITIONS_DIR")
    for name, value in given.items():
        value = value.replace("/etc/baton/", f"{folder}/").replace("$(POD_IP)", HOSTS[number])
        for port, free in zip(PORTS, ports, strict=True):
            value = re.sub(rf"(?<=:){port}$", str(free), value)
        given[name] = value
    return given


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    authority = Authority(folder / "authority")
    mounted(folder, authority)
    free = free_ports(len(PORTS) * len(HOSTS))
    server = authority.issue("etcd-server")
    with contextlib.ExitStack() as stack:
        stack.callback(release_ports, free)
        postgres = stack.enter_context(Postgres(folder / "postgres", settings={"fsync": "off"}))
        tls = EtcdTls(server.cert_file, server.key_file, authority.ca_file)
        etcd = stack.enter_context(EtcdCluster(folder / "etcd-data", members=1, tls=tls, unsafe_no_fsync=True))
        stores = {"BATON_ETCD_ENDPOINTS": ",".join(etcd.endpoints), "BATON_DSN": postgres.dsn()}
        ports = (free[: len(PORTS)], free[len(PORTS) :])
        made = Live(folder, tuple(variables_of(number, folder, ports[number], stores) for number in range(len(HOSTS))))
        for variables in made.variables:
            environment = {**inherited_environment("BATON_", "PARTICIPANT_", "PG"), **variables}
            name = variables["BATON_REPLICA"]
            process = Process(
                name, [sys.executable, "-P", "-m", "orchestrator", "replica"], environment, folder / f"{name}.log"
            )
            process.start()
            stack.callback(process.wait, SOON_S)
            stack.callback(process.kill)
            process.wait_until(partial(_ready, variables["BATON_HTTP_ADVERTISE"]), "is not ready", SOON_S)
        yield made


def _ready(address: str) -> bool:
    return get(f"https://{address}/readyz")[0] == 200


def get(
    url: str, ca_file: Path | None = None, server_name: str = "", token: str = "", **headers: str
) -> tuple[int, str]:
    """As a probe asks, who believes any certificate and shows none; or as Prometheus does, by authority and name."""
    context = ssl.create_default_context(cafile=str(ca_file)) if ca_file else ssl.create_default_context()
    if ca_file is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif server_name:
        context = _by_name(context, server_name)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(
            urllib.request.Request(url, headers=headers), timeout=10
        ) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


def _by_name(context: ssl.SSLContext, name: str) -> ssl.SSLContext:
    """A context that asks the server for another name than the one that was dialed."""
    inner = context.wrap_socket

    def wrap_socket(*arguments: Any, **options: Any) -> ssl.SSLSocket:
        return inner(*arguments, **{**options, "server_hostname": name})

    context.wrap_socket = wrap_socket  # type: ignore[method-assign]
    return context


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_a_probe_without_a_certificate_is_answered(live: Live, probe: str) -> None:
    asked = container_of(replica_of(manifest_set("complete")), "replica")[probe]["httpGet"]
    for address in live.http:
        assert get(f"{asked['scheme'].lower()}://{address}{asked['path']}")[0] == 200
        assert get(f"http://{address}{asked['path']}")[0] == 0


def test_prometheus_is_let_in_as_the_service_monitor_says(live: Live) -> None:
    (monitor,) = of_kind(manifest_set("complete"), "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    url = f"{endpoint['scheme']}://{live.http[0]}{endpoint['path']}"
    tls = endpoint["tlsConfig"]
    ca_file, name = live.folder / "tls" / tls["ca"]["secret"]["key"], tls["serverName"]
    status, text = get(url, ca_file, name, TOKEN)
    assert status == 200
    assert "baton_is_leader" in text
    assert get(url, ca_file, name)[0] == 401
    # Without the name the address would have to stand in the certificate.
    assert get(url, ca_file, "", TOKEN)[0] == 0


def test_the_sidecar_and_the_command_line_in_a_pod_find_the_leader_by_the_pods_certificate(live: Live) -> None:
    ends_at_s = time.monotonic() + SOON_S
    while (status := _status(live)) is None or status["leader"] is None or len(status["replicas"]) < len(HOSTS):
        assert time.monotonic() < ends_at_s, status
    (leader,) = (v for v in live.variables if v["BATON_REPLICA"] == status["leader"]["replica_id"])
    sidecar = container_of(replica_of(manifest_set("complete")), "leader-label")
    told = {v["name"] for v in sidecar["env"] if "configMapKeyRef" in v.get("valueFrom", {})}
    page = page_beside({name: value for name, value in leader.items() if name in told})
    assert leads(page.replace("127.0.0.1:7480", leader["BATON_HTTP_ADVERTISE"]))
    # It goes to whoever leads by the address of a pod, and shows the certificate of the pod that was asked.
    assert _command(live, "cluster", "step-down").returncode == 0


def _status(live: Live) -> Any:
    done = _command(live, "cluster", "status", "--json")
    return json.loads(done.stdout) if done.returncode == 0 else None


def _command(live: Live, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As `kubectl exec` runs it: with the variables of the pod."""
    environment = {**inherited_environment("BATON_"), **live.variables[0]}
    command = [sys.executable, "-m", "orchestrator", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SOON_S)
