"""The processes of Baton's own in a cluster on this machine: replicas and participants, with their environments."""

from __future__ import annotations

import asyncio
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health_pb2

from orchestrator.embedded.loopback import http_get
from orchestrator.embedded.processes import Process, inherited_environment
from orchestrator.pb.baton.v1 import cluster_pb2, cluster_pb2_grpc
from orchestrator.security.dialer import PLAIN

_ASK_INTERVAL_S = 0.02
_ASK_DEADLINE_S = 1.0
_RESTART_PAUSE_S = 0.1

# What sysexits.h calls a wrong configuration: starting it again would not help.
_BAD_CONFIGURATION = 78

# What the user has set for programs of these names is not meant for a cluster that Baton makes up itself.
_NOT_INHERITED = ("BATON_", "PARTICIPANT_", "PG", "ETCD")

# A server that was killed is back in a moment: do not wait a second, then two, before the next connection.
CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # A proxy of the user's environment knows nothing of our ports.
    ("grpc.enable_http_proxy", 0),
)


class Server(Process, ABC):
    """A process of Baton's own that serves gRPC at `address` (host:port).

    While `watched` is true, the cluster starts it again whenever it has ended.
    """

    def __init__(self, name: str, arguments: Sequence[str], env: Mapping[str, str], log_path: Path, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.watched = False
        surroundings = {
            **inherited_environment(*_NOT_INHERITED),
            # gRPC would send calls to 127.0.0.1 through the user's proxy.
            "no_grpc_proxy": "127.0.0.1,localhost",
            # The last lines of a process that is killed must be in its log.
            "PYTHONUNBUFFERED": "1",
        }
        # -P: a module in the caller's folder must not stand in for one of ours.
        argv = [sys.executable, "-P", "-m", *arguments]
        super().__init__(name, argv, {**surroundings, **env}, log_path)
        self._channel: grpc.aio.Channel | None = None
        # How to reach it; a cluster over TLS sets its own.
        self.dialer = PLAIN

    @abstractmethod
    async def ready(self) -> bool:
        """Whether it serves calls now. Takes a second at the most."""

    def channel(self) -> grpc.aio.Channel:
        """A channel to the server, which reconnects by itself; closed by `close`. Call it in one event loop only."""
        if self._channel is None:
            self._channel = self.dialer.channel(self.address, CHANNEL_OPTIONS)
        return self._channel

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def wait_ready(self, timeout_s: float) -> None:
        """Ask until it serves. Raises ProcessFailed, quoting its log, if it ends, or does not within `timeout_s`."""
        give_up_at = time.monotonic() + timeout_s
        while not await self.ready():
            if not self.alive and not self.watched:
                raise self.failed(f"ended with status {self.exit_status}")
            if time.monotonic() > give_up_at:
                raise self.failed(f"is not ready after {timeout_s:.1f} s")
            await asyncio.sleep(_ASK_INTERVAL_S)

    async def keep_running(self) -> None:
        """Start the process whenever it has ended while it is watched. Returns never: cancel it.

        Raises ProcessFailed if it ended because its configuration is wrong.
        """
        while True:
            if self.alive:
                await self.wait_exit()
            if self.watched and not self.alive:
                if self.exit_status == _BAD_CONFIGURATION:
                    raise self.failed("refuses its configuration")
                self.start()
            await asyncio.sleep(_RESTART_PAUSE_S)


class Participant(Server):
    """One participant of the sample shop: `address` is where the orchestrator calls it."""

    def __init__(self, service: str, port: int, dsn: str, settings: Mapping[str, str], log_dir: Path) -> None:
        env = {
            "PARTICIPANT_LISTEN": f"127.0.0.1:{port}",
            "PARTICIPANT_DSN": dsn,
            "PARTICIPANT_ALLOW_FAULTS": "1",
            **settings,
        }
        super().__init__(service, ["participants", service], env, log_dir / f"{service}.log", port)

    async def ready(self) -> bool:
        """Whether its health service says SERVING."""
        check = self.channel().unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=_ASK_DEADLINE_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class Replica(Server):
    """One replica of the orchestrator: `address` is that of its gRPC API."""

    def __init__(
        self,
        replica_id: str,
        ports: Sequence[int],
        dsn: str,
        etcd: Sequence[str],
        env: Mapping[str, str],
        log_dir: Path,
    ) -> None:
        """`ports` are those of the API, of HTTP and of the standbys' connections, in this order."""
        api, http, peer = (f"127.0.0.1:{port}" for port in ports)
        self.replica_id = replica_id
        self.http_address = http
        self.peer_address = peer
        own = {
            "BATON_REPLICA": replica_id,
            "BATON_ETCD_ENDPOINTS": ",".join(etcd),
            "BATON_DSN": dsn,
            "BATON_API_LISTEN": api,
            "BATON_HTTP_LISTEN": http,
            "BATON_PEER_LISTEN": peer,
        }
        log_path = log_dir / f"{replica_id}.log"
        super().__init__(replica_id, ["orchestrator", "replica"], {**own, **env}, log_path, ports[0])

    @property
    def api_address(self) -> str:
        """host:port of the gRPC API."""
        return self.address

    async def ready(self) -> bool:
        """Whether /readyz says so."""
        url = f"{'https' if self.dialer.secure else 'http'}://{self.http_address}/readyz"
        return await asyncio.to_thread(http_get, url, _ASK_DEADLINE_S, self.dialer.context()) is not None

    async def view(self, timeout_s: float = _ASK_DEADLINE_S) -> cluster_pb2.GetClusterResponse | None:
        """What this replica says of the cluster; None if it does not answer within `timeout_s`."""
        stub = cluster_pb2_grpc.ClusterServiceStub(self.channel())
        try:
            answer: cluster_pb2.GetClusterResponse = await stub.GetCluster(
                cluster_pb2.GetClusterRequest(), timeout=timeout_s
            )
        except grpc.aio.AioRpcError:
            return None
        return answer
