"""What a cluster asks of whoever puts something between its servers: links to be cut, networks of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit


class Routes(Protocol):
    """Where the servers of a cluster find each other, and where its replicas run.

    Sources and targets are names: `replica-1`, `standbys`, `client` and `*` (every replica) of sources; `etcd-0`,
    `postgres`, a participant, or a replica of targets. The cluster's own questions (health, views) take no route.
    """

    def route(self, source: str, target: str, address: str) -> str:
        """The host:port at which `source` shall reach `target`, which serves at `address`. Asked twice, the same."""

    def place(self, replica_id: str, argv: Sequence[str], addresses: Sequence[str]) -> Sequence[str]:
        """The command that runs a replica in its place; its own `addresses` (host:port) are reached from here."""


class Direct:
    """Nothing in between."""

    def route(self, source: str, target: str, address: str) -> str:
        """The address itself."""
        return address

    def place(self, replica_id: str, argv: Sequence[str], addresses: Sequence[str]) -> Sequence[str]:
        """The command itself."""
        return argv


def routed_dsn(dsn: str, route: Callable[[str], str]) -> str:
    """A libpq URL with `route` applied to each of its hosts (host:port)."""
    parts = urlsplit(dsn)
    user, at, hosts = parts.netloc.rpartition("@")
    routed = ",".join(route(host) for host in hosts.split(","))
    return parts._replace(netloc=f"{user}{at}{routed}").geturl()
