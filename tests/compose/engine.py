"""A container engine to try things on: the one that answers, or a dockerd of our own that leaves nothing behind.

Our own keeps its data, its socket and its containers in a folder of its own, so it meets no other engine. Two things it
shares with the machine: the network interfaces and the rules of iptables. Both are put back as they were.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.embedded.processes import Process, ProcessFailed
from tests.compose.base_images import Unable

_START_S = 60.0
_STOP_S = 60.0
_TABLES = ("iptables", "ip6tables")
_FORWARDED = ("filter", ":FORWARD ")
# A rule of a port that is published, to a container that reaches itself.
_PUBLISHED = re.compile(r"-A POSTROUTING -s (\S+) -d \1 .*-j MASQUERADE")
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@contextmanager
def engine() -> Iterator[str]:
    """Yields what the engine is. DOCKER_HOST leads to it meanwhile. Raises Unable, saying what this machine lacks."""
    if shutil.which("docker") is None:
        raise Unable("no `docker` here (Debian: apt-get install docker.io docker-compose)")
    if _answers():
        yield "the engine that runs here"
        return
    folder = Path(tempfile.mkdtemp(prefix="baton-dockerd-"))
    before = os.environ.get("DOCKER_HOST")
    network = _Network.now()
    daemon: Process | None = None
    try:
        daemon = _start(folder)
        os.environ["DOCKER_HOST"] = f"unix://{folder}/sock"
        _wait(daemon)
        network.keep_forwarding()
        yield "a dockerd of our own"
    finally:
        if daemon is not None:
            # Containers that still run would outlive it.
            _remove_containers(f"unix://{folder}/sock")
        if before is None:
            os.environ.pop("DOCKER_HOST", None)
        else:
            os.environ["DOCKER_HOST"] = before
        if daemon is not None:
            _stop(daemon)
        network.restore()
        _unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _answers() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _start(folder: Path) -> Process:
    if os.geteuid() != 0:
        raise Unable("no container engine answers, and only root can start one")
    lacking = [name for name in ("dockerd", "containerd", "iptables") if shutil.which(name) is None]
    if lacking:
        raise Unable(f"no container engine answers, and to start one this lacks {', '.join(lacking)}")
    folders = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    # A child that the reaper ends when the tests are killed.
    daemon = Process("dockerd", ["dockerd", *folders, f"--host=unix://{folder}/sock"], os.environ, folder / "log")
    daemon.start()
    return daemon


def _wait(daemon: Process) -> None:
    try:
        daemon.wait_until(_answers, "dockerd does not answer", _START_S)
    except ProcessFailed as failure:
        raise Unable(f"dockerd does not run here: {failure}") from failure


def _remove_containers(host: str) -> None:
    docker = ["docker", "--host", host]
    with suppress(subprocess.SubprocessError, OSError):
        ids = subprocess.run([*docker, "ps", "--all", "--quiet"], capture_output=True, text=True, timeout=60)
        if ids.stdout.split():
            subprocess.run([*docker, "rm", "--force", *ids.stdout.split()], capture_output=True, timeout=300)


def _stop(daemon: Process) -> None:
    # It ends its containerd itself.
    daemon.terminate()
    try:
        daemon.wait(_STOP_S)
    except ProcessFailed:
        daemon.kill()
        with suppress(ProcessFailed):
            daemon.wait(_STOP_S)


def _unmount(folder: Path) -> None:
    """Let go of what a daemon that did not end well has left mounted, the innermost first."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((point for point in mounted if point.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], capture_output=True)


class _Network:
    """The rules and interfaces of this machine at one moment, and the way back to them."""

    def __init__(self, rules: dict[str, list[tuple[str, str]]], links: set[str], forwards: str | None) -> None:
        self._rules = rules
        self._links = links
        self._forwards = forwards

    @classmethod
    def now(cls) -> _Network:
        """What there is. What cannot be read is not put back."""
        forwards = _FORWARD.read_text() if _FORWARD.exists() else None
        return cls({tool: _saved(tool) for tool in _TABLES}, _bridges(), forwards)

    def keep_forwarding(self) -> None:
        """Undo that dockerd drops by default what is forwarded: network namespaces of others may rely on it."""
        for tool, before in self._rules.items():
            policy = next((line.split()[1] for table, line in before if (table, line[:9]) == _FORWARDED), "ACCEPT")
            _iptables(tool, "filter", "-P", "FORWARD", policy)

    def restore(self) -> None:
        """Take away what has come since; what others have added meanwhile, to chains of their own, stays."""
        for tool, before in self._rules.items():
            self._restore_rules(tool, before)
        self.keep_forwarding()
        for link in _bridges() - self._links:
            subprocess.run(["ip", "link", "delete", link], capture_output=True)
        if self._forwards is not None:
            with suppress(OSError):
                _FORWARD.write_text(self._forwards)

    def _restore_rules(self, tool: str, before: list[tuple[str, str]]) -> None:
        came = [(table, line) for table, line in _saved(tool) if (table, line) not in before]
        ours = [(table, line) for table, line in came if "DOCKER" in line or "docker0" in line or "br-" in line]
        ours += [(table, line) for table, line in came if _PUBLISHED.match(line)]
        for table, line in ours:
            if line.startswith("-A"):
                _iptables(tool, table, *line.replace("-A", "-D", 1).replace('"', "").split())
        chains = [(table, line[1:].split()[0]) for table, line in ours if line.startswith(":")]
        for option in ("-F", "-X"):
            for table, chain in chains:
                _iptables(tool, table, option, chain)


def _saved(tool: str) -> list[tuple[str, str]]:
    """Every chain and rule, with its table, without counters."""
    if shutil.which(f"{tool}-save") is None:
        return []
    table, found = "", []
    for line in subprocess.run([f"{tool}-save"], capture_output=True, text=True).stdout.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith((":", "-A")):
            found.append((table, line.partition(" [")[0]))
    return found


def _iptables(tool: str, table: str, *arguments: str) -> None:
    subprocess.run([tool, "--wait", "10", "--table", table, *arguments], capture_output=True)


def _bridges() -> set[str]:
    names = (path.name for path in Path("/sys/class/net").iterdir())
    return {name for name in names if name == "docker0" or name.startswith("br-")}
