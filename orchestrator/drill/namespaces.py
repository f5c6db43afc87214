"""Replicas in network namespaces of their own, where packets can really be lost. Linux, for root.

Each replica gets a namespace with nothing in it but a loopback and one cable (veth) to a bridge in one more namespace,
the hub. The servers stay where they are, on 127.0.0.1 of the host: for each target the hub has an address, and links
of ours listen there and forward. Such a link listens in the hub and connects from elsewhere, since a socket stays in
the namespace where it was made; so the host's own network gets no interface, no address and no rule.

A link is cut by nftables rules that drop packets where they arrive: at the hub for what goes to the server, in the
replica's namespace for what comes back. Neither end learns anything, as with a cable or a switch that fails.

A namespace has no name. It lives as long as the process that was started in it and the sockets made in it, and those
processes carry the token of the run: however the drill ends, the reaper ends them, and the kernel does the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.drill.proxy import BOTH, Proxy, Toward
from orchestrator.embedded.processes import Process, ProcessFailed, inherited_environment
from orchestrator.errors import InvariantError

_TOOLS = ("ip", "nft", "nsenter", "unshare", "sleep")
_COMMAND_TIMEOUT_S = 10.0
_READY_TIMEOUT_S = 10.0
_ASK_INTERVAL_S = 0.005

_HUB = "hub"
_BRIDGE = "hub0"
_REPLICA_NET = "10.88.0"
_TARGET_NET = "10.88.1"
_PREFIX = 16

_RULES = """
table ip drill {
    chain arriving { type filter hook input priority 0; policy accept; }
}
"""


@cache
def why_not() -> str | None:
    """Why this host has no network namespaces for drills; None if it has. Makes one to find out."""
    if os.geteuid() != 0:
        return "network namespaces need root (CAP_SYS_ADMIN)"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"network namespaces need {', '.join(missing)} (iproute2, nftables, util-linux)"
    trial = f"ip link add {_BRIDGE} type bridge && ip link add trial0 type veth peer name trial1 && nft -f -"
    try:
        done = subprocess.run(
            ["unshare", "--net", "sh", "-c", trial],
            input=_RULES.encode(),
            capture_output=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a network namespace cannot be made: {error}"
    if done.returncode != 0:
        return f"a network namespace cannot be made: {done.stderr.decode(errors='replace').strip()}"
    return None


class _Namespace:
    """One namespace, kept by a process that sleeps in it."""

    def __init__(self, name: str, log_path: Path) -> None:
        command = ["unshare", "--net", "sleep", "infinity"]
        self.name = name
        self._keeper = Process(f"namespace of {name}", command, inherited_environment("BATON_"), log_path)

    def make(self) -> None:
        """Start it. Raises ProcessFailed."""
        self._keeper.start()
        ours = os.readlink("/proc/self/ns/net")
        give_up_at_s = time.monotonic() + _READY_TIMEOUT_S
        while os.readlink(self.path) == ours:
            if not self._keeper.alive or time.monotonic() > give_up_at_s:
                raise self._keeper.failed("has not begun")
            time.sleep(_ASK_INTERVAL_S)
        self.run("ip", "link", "set", "lo", "up")
        self.run("nft", "-f", "-", text=_RULES)

    @property
    def pid(self) -> int:
        """A process that is in it."""
        return self._keeper.pid

    @property
    def path(self) -> Path:
        """The file by which the kernel knows it."""
        return Path(f"/proc/{self.pid}/ns/net")

    @property
    def entrance(self) -> tuple[str, ...]:
        """What stands before a command to run it within; the process stays the same."""
        return ("nsenter", f"--net={self.path}", "--")

    def run(self, *argv: str, text: str = "") -> str:
        """Run a command within. Raises ProcessFailed, quoting it."""
        done = subprocess.run(
            [*self.entrance, *argv], input=text.encode(), capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise ProcessFailed(f"in the namespace of {self.name}, `{' '.join(argv)}` failed: {said}")
        return done.stdout.decode()

    def drop(self, source: str, target: str) -> None:
        """Drop what arrives here from `source` (an address) for `target`."""
        rule = ["ip", "saddr", source, "ip", "daddr", target, "counter", "drop"]
        self.run("nft", "add", "rule", "ip", "drill", "arriving", *rule)

    def dropped(self) -> int:
        """Packets that the rules now in force have dropped."""
        listed = json.loads(self.run("nft", "-j", "list", "chain", "ip", "drill", "arriving"))
        expressions = [part for entry in listed["nftables"] for part in entry.get("rule", {}).get("expr", ())]
        return sum(part["counter"]["packets"] for part in expressions if "counter" in part)

    def keep_all(self) -> None:
        """Drop nothing any more."""
        self.run("nft", "flush", "chain", "ip", "drill", "arriving")

    def end(self) -> None:
        """Let it go."""
        self._keeper.stop()


class Namespaces:
    """The namespaces of a cluster's replicas; a context manager that implements `Routes` of embedded/routes.py.

    Sources are replicas; targets are `etcd` (all members) or one of them, `postgres`, a participant, or a replica, of
    which `standbys` is the peer port. Raises ProcessFailed, saying why, where the host has none (see `why_not`).
    """

    def __init__(self, data_dir: Path) -> None:
        self._log_path = data_dir.absolute() / "logs" / "namespaces.log"
        self._proxy = Proxy()
        self._hub = _Namespace(_HUB, self._log_path)
        self._replicas: dict[str, tuple[str, _Namespace]] = {}
        self._targets: dict[str, str] = {}
        self._routed: dict[tuple[str, str], str] = {}
        self._exposed: set[str] = set()

    def route(self, source: str, target: str, address: str) -> str:
        """The hub's address for `target`, the same for every replica; rules tell the replicas apart."""
        if source == "client":
            return address
        if (target, address) not in self._routed:
            serves_in = self._of_replica(target).path if source == "standbys" else None
            host, _, port = address.rpartition(":")
            link = self._proxy.link(
                f"hub to {target}",
                (host, int(port)),
                host=self._address_of(target),
                listen_in=self._hub.path,
                connect_in=serves_in,
            )
            self._routed[target, address] = f"{link.address[0]}:{link.address[1]}"
        return self._routed[target, address]

    def place(self, replica_id: str, argv: Sequence[str], addresses: Sequence[str]) -> Sequence[str]:
        """The command, run in the replica's namespace; its ports there are reached by the same ones of the host."""
        within = self._of_replica(replica_id)
        for address in addresses:
            if address not in self._exposed:
                self._exposed.add(address)
                host, _, port = address.rpartition(":")
                target = (host, int(port))
                self._proxy.link(f"{replica_id} {port}", target, host=host, port=int(port), connect_in=within.path)
        return (*within.entrance, *argv)

    def lose(self, source: str, target: str, toward: Sequence[Toward] = BOTH) -> None:
        """Lose all packets between a replica and a target, both ways or one way. Takes some milliseconds."""
        address, within = self._known(source)
        for hub_address in self._addresses_of(target):
            if Toward.SERVER in toward:
                self._hub.drop(address, hub_address)
            if Toward.CLIENT in toward:
                within.drop(hub_address, address)

    def isolate(self, replica_id: str) -> None:
        """Lose all packets between a replica and everybody else, and between the others and its peer port."""
        for target in self._targets:
            if target != replica_id:
                self.lose(replica_id, target)
        for other in self._replicas:
            if other != replica_id:
                self.lose(other, replica_id)

    def heal(self) -> None:
        """Lose nothing any more. The two ends notice when one of them next repeats what was lost."""
        for within in self._all():
            within.keep_all()

    def dropped(self) -> int:
        """Packets dropped since the last `heal`."""
        return sum(within.dropped() for within in self._all())

    def _all(self) -> list[_Namespace]:
        return [self._hub, *(within for _, within in self._replicas.values())]

    def _known(self, replica_id: str) -> tuple[str, _Namespace]:
        if replica_id not in self._replicas:
            raise InvariantError(f"no replica {replica_id} has a namespace; there are {sorted(self._replicas)}")
        return self._replicas[replica_id]

    def _of_replica(self, replica_id: str) -> _Namespace:
        """The namespace of a replica, with its cable to the hub; made when it is first asked for."""
        if replica_id not in self._replicas:
            number = len(self._replicas) + 1
            address, cable = f"{_REPLICA_NET}.{number + 1}", f"cable{number}"
            within = _Namespace(replica_id, self._log_path)
            self._replicas[replica_id] = (address, within)
            within.make()
            peer = ("peer", "name", "eth0", "netns", str(within.pid))
            self._hub.run("ip", "link", "add", cable, "type", "veth", *peer)
            self._hub.run("ip", "link", "set", cable, "master", _BRIDGE, "up")
            within.run("ip", "addr", "add", f"{address}/{_PREFIX}", "dev", "eth0")
            within.run("ip", "link", "set", "eth0", "up")
        return self._replicas[replica_id][1]

    def _address_of(self, target: str) -> str:
        if target not in self._targets:
            self._targets[target] = address = f"{_TARGET_NET}.{len(self._targets) + 1}"
            self._hub.run("ip", "addr", "add", f"{address}/{_PREFIX}", "dev", _BRIDGE)
        return self._targets[target]

    def _addresses_of(self, target: str) -> list[str]:
        found = [address for name, address in self._targets.items() if target in (name, name.rpartition("-")[0])]
        if not found:
            raise InvariantError(f"nobody is routed to {target}; there are {sorted(self._targets)}")
        return found

    def __enter__(self) -> Self:
        if reason := why_not():
            raise ProcessFailed(reason)
        self._proxy.__enter__()
        try:
            self._hub.make()
            self._hub.run("ip", "link", "add", _BRIDGE, "type", "bridge")
            self._hub.run("ip", "addr", "add", f"{_REPLICA_NET}.1/{_PREFIX}", "dev", _BRIDGE)
            self._hub.run("ip", "link", "set", _BRIDGE, "up")
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._proxy.__exit__(kind, error, traceback)
        for within in self._all():
            within.end()
