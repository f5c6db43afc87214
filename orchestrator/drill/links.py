"""All links of a cluster on this machine, each through a proxy of ours, to be cut and healed by name.

Of each replica to each member of etcd and to Postgres; of all standbys to each replica's peer port; of all replicas
to each participant. The last is one link for all, since a definition has one address for all replicas: who wants to
cut one replica from a participant takes namespaces.py. Nothing of it is kept: a cluster that is started again on its
folder gets new links, so sagas of the earlier run do not find their participants by them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from orchestrator.drill.proxy import BOTH, Link, Proxy, Tally, Toward, Trap
from orchestrator.errors import InvariantError

ANY = "*"
STANDBYS = "standbys"
CLIENT = "client"


class Links:
    """The links by source and target; a context manager that implements `Routes` of embedded/routes.py.

    With `clients`, callers of the API go through links as well: ("client", "replica-1"). In all methods a source or
    target may be `*`, and `etcd` means all of its members.
    """

    def __init__(self, *, clients: bool = False) -> None:
        self._proxy = Proxy()
        self._clients = clients
        self._links: dict[tuple[str, str], list[Link]] = defaultdict(list)
        self._routed: dict[tuple[str, str, str], str] = {}

    def route(self, source: str, target: str, address: str) -> str:
        """The address of the link from `source` to `target`, which is made at the first question."""
        if source == CLIENT and not self._clients:
            return address
        key = (source, target, address)
        if key not in self._routed:
            host, _, port = address.rpartition(":")
            link = self._proxy.link(f"{source} to {target}", (host, int(port)))
            self._links[source, target].append(link)
            self._routed[key] = f"{link.address[0]}:{link.address[1]}"
        return self._routed[key]

    def place(self, replica_id: str, argv: Sequence[str], addresses: Sequence[str]) -> Sequence[str]:
        """Replicas run where they always do."""
        return argv

    async def cut(self, source: str, target: str) -> None:
        """Refuse new connections and reset the open ones. See `Link.cut`.

        Between standbys and a replica this is no mere cut of the network: a refusal says that the process is gone.
        """
        await self.each(source, target, Link.cut)

    async def reset(self, source: str, target: str, *toward: Toward) -> None:
        """Reset the open connections once. See `Link.reset`."""
        await self.each(source, target, lambda link: link.reset(*toward))

    async def unplug(self, source: str, target: str, toward: Sequence[Toward] = BOTH) -> None:
        """Lose every packet. See `Link.unplug`."""
        await self.each(source, target, lambda link: link.unplug(toward))

    async def blackhole(self, source: str, target: str, toward: Sequence[Toward] = BOTH) -> None:
        """Accept, read, and pass nothing on. See `Link.blackhole`."""
        await self.each(source, target, lambda link: link.blackhole(toward))

    async def delay(
        self, source: str, target: str, delay_s: float, jitter_s: float = 0.0, toward: Sequence[Toward] = BOTH
    ) -> None:
        """Let everything take its time, in seconds. See `Link.delay`."""
        await self.each(source, target, lambda link: link.delay(delay_s, jitter_s, toward))

    async def swallow_answers(
        self, source: str, target: str, request: bytes = b"", answer: bytes = b"", times: int = 1
    ) -> None:
        """Reset connections right after the answer to `request` came, undelivered: `times` in all. See `Trap`."""
        trap = Trap(request, answer, times)
        await self.each(source, target, lambda link: link.swallow_answers(trap))

    async def divert(self, source: str, target: str, address: str) -> None:
        """Forward to `address` (host:port) instead. See `Link.divert`."""
        host, _, port = address.rpartition(":")
        await self.each(source, target, lambda link: link.divert((host, int(port))))

    async def heal(self, source: str = ANY, target: str = ANY) -> None:
        """Be as good as no links again."""
        await self.each(source, target, Link.heal)

    async def tally(self, source: str = ANY, target: str = ANY) -> Tally:
        """What these links have done so far, together."""
        total = Tally()

        def add(link: Link) -> None:
            tally = link.tally
            total.accepted += tally.accepted
            total.resets += tally.resets
            total.struck += tally.struck
            total.held_bytes += tally.held_bytes
            total.swallowed_bytes += tally.swallowed_bytes
            total.delayed_bytes += tally.delayed_bytes
            for toward in BOTH:
                total.bytes_toward[toward] += tally.bytes_toward[toward]

        await self.each(source, target, add)
        return total

    async def each(self, source: str, target: str, action: Callable[[Link], None]) -> None:
        """Do something to each of these links, in the proxy's loop. Raises InvariantError if there is none."""
        found = [
            link
            for (from_, to), links in self._links.items()
            if source in (ANY, from_) and (target in (ANY, to) or to.rpartition("-")[0] == target == "etcd")
            for link in links
        ]
        if not found:
            raise InvariantError(f"no link from {source} to {target}; there are {sorted(self._links)}")

        def act() -> None:
            for link in found:
                action(link)

        await self._proxy.ask(act)

    def __enter__(self) -> Self:
        self._proxy.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._proxy.__exit__(kind, error, traceback)
