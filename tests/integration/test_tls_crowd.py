"""Very many connections at once to a server with certificates that may change: it must outlive them.

gRPC's server dies, as a process, when it is given certificates that it has while connections come at the same time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import grpc.aio
import pytest

from orchestrator.embedded.tls import ClusterTls
from orchestrator.security.assemble import Doors
from orchestrator.security.gate import Gate
from orchestrator.security.identity import identity_from
from participants.tls import Certificates

THREADS = 16
CONNECTIONS = 2_000
WITHIN_S = 150.0

Files = tuple[Path, Path, Path]


def of_a_replica(files: Files) -> grpc.ServerCredentials:
    ca, cert, key = files
    credentials = Doors(Gate(), identity_from(ca, cert, key)).credentials(certificates=True)
    assert credentials is not None
    return credentials


def of_a_participant(files: Files) -> grpc.ServerCredentials:
    ca, cert, key = files
    return Certificates(cert, key, ca).credentials()


def serve(credentials: Callable[[Files], grpc.ServerCredentials], files: Files, caller: Connection) -> None:
    """Serve nothing, and tell the port, until the caller hangs up."""

    async def run() -> None:
        server = grpc.aio.server()
        port = server.add_secure_port("127.0.0.1:0", credentials(files))
        await server.start()
        caller.send(port)
        await asyncio.to_thread(caller.poll, None)
        await server.stop(None)

    asyncio.run(run())


class Crowd:
    """Connects, and hangs up, from many threads at once."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port, self._context = port, context
        self._until_s = time.monotonic() + WITHIN_S
        self.connected = 0

    def come(self) -> None:
        threads = [threading.Thread(target=self._come) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _come(self) -> None:
        while self.connected < CONNECTIONS and time.monotonic() < self._until_s:
            try:
                with (
                    socket.create_connection(("127.0.0.1", self._port), timeout=5.0) as plain,
                    self._context.wrap_socket(plain),
                ):
                    self.connected += 1
            except ConnectionRefusedError:
                return  # It is dead.
            except OSError:
                continue


@pytest.mark.parametrize("credentials", [of_a_replica, of_a_participant])
def test_a_server_outlives_a_crowd_of_connections(
    credentials: Callable[[Files], grpc.ServerCredentials], tmp_path: Path
) -> None:
    variables = ClusterTls(tmp_path).participant_variables
    ca, cert, key = (Path(variables[f"PARTICIPANT_TLS_{part}_FILE"]) for part in ("CA", "CERT", "KEY"))
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(cert, key)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(credentials, (ca, cert, key), theirs))
    server.start()
    theirs.close()
    try:
        assert ours.poll(WITHIN_S)
        crowd = Crowd(ours.recv(), context)
        # They change in the middle of it as well.
        changing = threading.Timer(0.5, os.utime, [cert])
        changing.start()
        crowd.come()
        changing.join()
        assert server.exitcode is None, f"it died with {server.exitcode} after {crowd.connected} connections"
        assert crowd.connected >= CONNECTIONS
    finally:
        ours.close()
        server.join(WITHIN_S)
        server.kill()
