"""A whole cluster on this machine: etcd, Postgres, participants and replicas, each a process of its own.

For `baton demo`, `baton dev`, the benchmarks and the cluster tests. Everything lies below one folder: the data of
etcd and Postgres, a log for each process in `logs/`, and the ports. Started again on the same folder, replicas and
participants come back on the same ports, so that the sagas of the earlier run still find their participants.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from orchestrator.embedded.etcd import EtcdCluster
from orchestrator.embedded.loopback import kept_ports, release_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import ProcessFailed
from orchestrator.embedded.routes import Direct, Routes, routed_dsn
from orchestrator.embedded.servers import Participant, Replica, Server
from orchestrator.embedded.standby import PostgresPair
from orchestrator.embedded.tls import ClusterTls
from orchestrator.errors import InvariantError
from orchestrator.security.dialer import PLAIN, Dialer

SHOP = ("inventory", "payment", "orders", "shipping")

# In the source tree the samples stand among the files to deploy; in a wheel they are in the package.
_PACKAGE = Path(__file__).resolve().parents[1]
_PACKAGED_DEFINITIONS = _PACKAGE / "demo" / "definitions"
SAMPLE_DEFINITIONS = (
    _PACKAGED_DEFINITIONS if _PACKAGED_DEFINITIONS.is_dir() else _PACKAGE.parent / "deploy" / "definitions"
)

_READY_TIMEOUT_S = 60.0
_LEADER_DEADLINE_S = 1.0
_ASK_INTERVAL_S = 0.02

_NO_FSYNC = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, as the replicas say."""

    replica: Replica
    epoch: int


class Cluster:
    """etcd, Postgres, participants and replicas below `data_dir`; an async context manager that starts and stops them.

    `settings` are BATON_* variables for every replica, `participant_settings` PARTICIPANT_* variables for every
    participant, `postgres_settings` go over postgresql.conf; `unsafe_no_fsync` trades durability for speed. The YAML
    files of `definitions_dir`, if given, are applied by the replicas. What has ended is started again on its port:
    participants by default, since injected faults end them; replicas with `restart_replicas`. One that should stay
    away for a while gets `watched = False` first. `routes` may put something between the servers, to disturb them.
    With `secure` everything but Postgres speaks TLS, and asks for certificates; `tls` has those of a client.
    With `log_standby` the saga log is on a pair of Postgres servers of its own, `pair`, of which one follows the other.

    Raises ProcessFailed, quoting the log of the process to blame, when the cluster does not come up.
    """

    def __init__(
        self,
        data_dir: Path,
        replicas: int = 3,
        etcd_members: int = 3,
        participants: Sequence[str] = SHOP,
        *,
        settings: Mapping[str, str] | None = None,
        participant_settings: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
        definitions_dir: Path | None = SAMPLE_DEFINITIONS,
        restart_participants: bool = True,
        restart_replicas: bool = False,
        unsafe_no_fsync: bool = False,
        routes: Routes | None = None,
        log_standby: Literal["synchronous", "asynchronous"] | None = None,
        secure: bool = False,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.log_dir = self.data_dir / "logs"
        self.replicas: tuple[Replica, ...] = ()
        self.participants: dict[str, Participant] = {}
        self._replica_ids = tuple(f"replica-{number}" for number in range(1, replicas + 1))
        self._services = tuple(participants)
        self._settings = dict(settings or {})
        self._participant_settings = dict(participant_settings or {})
        self._definitions_dir = definitions_dir
        self._restart_participants = restart_participants
        self._restart_replicas = restart_replicas
        self._routes = routes or Direct()
        self._group = asyncio.TaskGroup()
        self._watchdogs: list[asyncio.Task[None]] = []

        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.tls = ClusterTls(self.data_dir / "tls") if secure else None
        if self.tls is not None:
            self._settings = {**self.tls.replica_variables, **self._settings}
            self._participant_settings = {**self.tls.participant_variables, **self._participant_settings}
        names = [*self._services, *(f"{name}/{kind}" for name in self._replica_ids for kind in ("api", "http", "peer"))]
        self._ports = kept_ports(self.data_dir / "ports.json", names)
        try:
            self.etcd = EtcdCluster(
                self.data_dir / "etcd",
                etcd_members,
                tls=None if self.tls is None else self.tls.etcd,
                unsafe_no_fsync=unsafe_no_fsync,
                log_dir=self.log_dir,
            )
            self.postgres = Postgres(
                self.data_dir / "postgres",
                settings={**(_NO_FSYNC if unsafe_no_fsync else {}), **(postgres_settings or {})},
                log_dir=self.log_dir,
            )
            self.pair: PostgresPair | None = None
            if log_standby is not None:
                self.pair = PostgresPair(
                    self.data_dir / "pair",
                    synchronous=log_standby == "synchronous",
                    settings={**(_NO_FSYNC if unsafe_no_fsync else {}), **(postgres_settings or {})},
                    log_dir=self.log_dir,
                )
        except BaseException:
            release_ports(tuple(self._ports.values()))
            raise

    @property
    def api_endpoints(self) -> tuple[str, ...]:
        """The gRPC API of each replica, as host:port."""
        return tuple(self._routes.route("client", replica.name, replica.api_address) for replica in self.replicas)

    @property
    def addresses(self) -> dict[str, str]:
        """The variables that sample definitions name their services by, such as INVENTORY_ADDRESS."""
        return {
            f"{name.upper()}_ADDRESS": self._routes.route("*", name, f"127.0.0.1:{self._ports[name]}")
            for name in self._services
        }

    @property
    def baton_dsn(self) -> str:
        """The libpq URL of the saga log."""
        return (self.pair or self.postgres).dsn("baton")

    @property
    def shop_dsn(self) -> str:
        """The libpq URL of the participants' database, one schema for each."""
        return self.postgres.dsn("shop")

    async def start(self) -> None:
        """Start everything and return once it serves and a replica leads. Raises ProcessFailed."""
        # etcd and Postgres at once; the participants as soon as Postgres is there.
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(in_thread(self.etcd.start))
                group.create_task(self._start_participants())
        except* ProcessFailed as failures:
            raise _first(failures) from None
        self.replicas = tuple(self._replica(name) for name in self._replica_ids)
        for replica in self.replicas:
            replica.start()
            replica.watched = self._restart_replicas
        await self.wait_ready()
        for server in self._servers():
            self._watchdogs.append(self._group.create_task(server.keep_running()))

    async def _start_participants(self) -> None:
        await in_thread(self.postgres.start)
        if self.pair is not None:
            await in_thread(self.pair.start)
        await in_thread(partial((self.pair or self.postgres).create_database, "baton"))
        await in_thread(partial(self.postgres.create_database, "shop"))
        self.participants = {
            name: Participant(name, self._ports[name], self.shop_dsn, self._participant_settings, self.log_dir)
            for name in self._services
        }
        for participant in self.participants.values():
            participant.dialer = self.dialer
            participant.start()
        # Before any replica: it asks them for their descriptors when it loads the definitions.
        for participant in self.participants.values():
            await participant.wait_ready(_READY_TIMEOUT_S)
            participant.watched = self._restart_participants

    def _replica(self, name: str) -> Replica:
        route = self._routes.route
        ports = [self._ports[f"{name}/{kind}"] for kind in ("api", "http", "peer")]
        api, http, peer = (f"127.0.0.1:{port}" for port in ports)
        advertised = {
            "BATON_API_ADVERTISE": route("client", name, api),
            "BATON_PEER_ADVERTISE": route("standbys", name, peer),
        }
        env = {**self.addresses, **advertised, **self._settings}
        if self._definitions_dir is not None:
            env["BATON_DEFINITIONS_DIR"] = str(self._definitions_dir)
        dsn = routed_dsn(self.baton_dsn, lambda address: route(name, "postgres", address))
        etcd = [route(name, member.name, member.endpoint) for member in self.etcd.members]
        replica = Replica(name, ports, dsn, etcd, env, self.log_dir)
        replica.dialer = self.dialer
        replica.argv = tuple(self._routes.place(name, replica.argv, (api, http, peer)))
        return replica

    @property
    def dialer(self) -> Dialer:
        """How its servers are reached: in the clear, or over TLS as its operator."""
        return PLAIN if self.tls is None else self.tls.dialer

    def _servers(self) -> list[Server]:
        return [*self.replicas, *self.participants.values()]

    async def wait_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> Leader:
        """Wait until every replica and participant that runs, or is watched, serves, and a replica leads.

        Returns the leader. Raises ProcessFailed after `timeout_s`, or when a process that is not watched ends.
        """
        give_up_at = time.monotonic() + timeout_s
        for server in self._servers():
            if server.alive or server.watched:
                await server.wait_ready(max(0.0, give_up_at - time.monotonic()))
        return await self.wait_leader(timeout_s=max(0.0, give_up_at - time.monotonic()))

    async def start_replica(self, index: int, timeout_s: float = _READY_TIMEOUT_S) -> Replica:
        """Start a replica that has ended, and wait until it is ready. Raises ProcessFailed."""
        replica = self.replicas[index]
        replica.start()
        await replica.wait_ready(timeout_s)
        return replica

    async def leader(self, timeout_s: float = _LEADER_DEADLINE_S) -> Leader | None:
        """Who leads now, by the answer with the highest epoch; None if nobody, or only a process that has ended.

        Asks all replicas that can answer at once; takes `timeout_s` at the most. A frozen leader is named until the
        others have replaced it.
        """
        asked = [replica for replica in self.replicas if replica.alive and not replica.suspended]
        async with asyncio.TaskGroup() as group:
            views = [group.create_task(replica.view(timeout_s)) for replica in asked]
        answers = [answer for task in views if (answer := task.result()) is not None and answer.HasField("leader")]
        if not answers:
            return None
        newest = max(answers, key=lambda answer: answer.epoch)
        for replica in self.replicas:
            # By its pid: a replica that was started again does not lead by what its forerunner had won.
            if replica.alive and (replica.replica_id, replica.pid) == (newest.leader.replica_id, newest.leader.pid):
                return Leader(replica, newest.epoch)
        return None

    async def wait_leader(self, above_epoch: int = 0, timeout_s: float = _READY_TIMEOUT_S) -> Leader:
        """Wait for a leader of a higher epoch than `above_epoch`. Raises ProcessFailed after `timeout_s`."""
        give_up_at = time.monotonic() + timeout_s
        while True:
            leader = await self.leader()
            if leader is not None and leader.epoch > above_epoch:
                return leader
            if time.monotonic() > give_up_at:
                logs = "\n".join(f"{replica.name}:\n{replica.log_tail()}" for replica in self.replicas)
                raise ProcessFailed(
                    f"no replica leads above epoch {above_epoch} after {timeout_s:.1f} s. Logs:\n{logs}"
                )
            await asyncio.sleep(_ASK_INTERVAL_S)

    async def stop(self) -> None:
        """End every process, in order, and give the ports back. Does not raise if some have ended already."""
        for server in self._servers():
            server.watched = False
        # Replicas first: they hand over nothing to servers that are gone.
        for servers in (self.replicas, tuple(self.participants.values())):
            async with asyncio.TaskGroup() as group:
                for server in servers:
                    group.create_task(in_thread(server.stop))
        for server in self._servers():
            await server.close()
        await in_thread(self.etcd.stop)
        await in_thread(self.postgres.stop)
        if self.pair is not None:
            await in_thread(self.pair.stop)
        release_ports(tuple(self._ports.values()))

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        try:
            await self.start()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for watchdog in self._watchdogs:
            watchdog.cancel()
        try:
            # The caller's own error goes on as it is. A cancellation may be the group's, because of a watchdog's error.
            cancelled = isinstance(error, asyncio.CancelledError)
            await self._group.__aexit__(kind, error, traceback) if cancelled else await self._group.__aexit__(
                None, None, None
            )
        finally:
            await self.stop()


def _first(failures: BaseExceptionGroup[ProcessFailed]) -> ProcessFailed:
    for failure in failures.exceptions:
        return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure
    raise InvariantError("an exception group without an exception")


async def in_thread(call: Callable[[], object]) -> None:
    """Run a blocking call in a thread. Cancelled, it waits for the end of the call: what it starts must be stopped."""
    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        await asyncio.wait([future])
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
    future.result()


def data_dir_for(command: str) -> Path:
    """A new folder for the data of one run: `.baton/<command>-<time>` below the current one.

    Raises ProcessFailed, saying what to do, if it cannot be made.
    """
    parent = Path.cwd() / ".baton"
    stem = f"{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in itertools.count(1):
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue  # another run of the same second
        except OSError as error:
            raise ProcessFailed(f"cannot make {folder}: {error}. Name a folder with --data") from None
        return folder
    raise InvariantError("counting has ended")
