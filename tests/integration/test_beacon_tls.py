"""The heartbeat over TLS: the same evidence as in the clear, and none from whoever only seems to be the leader."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.embedded.authority import Authority
from orchestrator.embedded.processes import Process
from orchestrator.leadership.observer import Observer
from orchestrator.leadership.peer import ObserverPace, probe
from orchestrator.leadership.port import Member
from orchestrator.leadership.pulse import boottime_s
from orchestrator.leadership.verdict import Probe, Verdict
from orchestrator.security.dialer import PLAIN, Dialer
from orchestrator.security.identity import identity_from
from tests.integration.beacon_host import SOON_S, BeaconHost

# A busy machine takes its time for a handshake; what is decided does not depend on how long.
PACE = ObserverPace(beat_interval_s=0.05, beat_timeout_s=0.3, connect_timeout_s=2.0, handshake_timeout_s=2.0)
# Where an answer comes in any case: also from a process that stands still for a moment.
PATIENT = replace(PACE, connect_timeout_s=10.0, handshake_timeout_s=10.0)

BEACON = """
import sys, time
from pathlib import Path
from orchestrator.leadership.beacon import Beacon, Hello
from orchestrator.leadership.pulse import Pulse
from orchestrator.security.access import AccessList
from orchestrator.security.assemble import Doors
from orchestrator.security.files import Reloaded
from orchestrator.security.gate import Gate
from orchestrator.security.identity import identity_from
address, incarnation, access, ca, cert, key = sys.argv[1:]
gate = Gate(Reloaded([Path(access)], lambda contents: AccessList.parse(contents[0])))
doors = Doors(gate, identity_from(Path(ca), Path(cert), Path(key)))
pulse = Pulse()
beacon = Beacon(address, Hello("a", incarnation), pulse, interval_s=0.05, doors=doors)
beacon.start()
while True:
    pulse.beat()
    time.sleep(0.01)
"""


class Host(BeaconHost):
    """An address at which a beacon may serve, as a process of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.authority = Authority(folder / "ca")
        self._access = folder / "access.yaml"
        self._access.write_text("callers: [{name: replicas, certificate: replica, roles: [replica]}]")

    def start(self, incarnation: str = "1", authority: Authority | None = None) -> Process:
        """Start a beacon, with a certificate of the authority."""
        issued = (authority or self.authority).issue("replica", file_name="server")
        files = (self._access, self.authority.ca_file, issued.cert_file, issued.key_file)
        return self.run(BEACON, incarnation, *map(str, files))

    def dialer(self, name: str = "replica", authority: Authority | None = None, server_name: str = "") -> Dialer:
        """How a standby with a certificate for `name` connects, and which name it asks of the leader's."""
        issued = (authority or self.authority).issue(name, file_name="client")
        identity = identity_from(self.authority.ca_file, issued.cert_file, issued.key_file)
        return Dialer(identity, server_name=server_name)

    def member(self, incarnation: str = "1") -> Member:
        """How the process describes itself in etcd."""
        return Member("a", incarnation, self.address, "", "", 1, "1")

    async def met(self, dialer: Dialer) -> Probe:
        """What a fresh connection meets."""
        async with asyncio.timeout(SOON_S):
            met, connection, _ = await probe(self.member(), PATIENT, boottime_s, dialer)
        if connection is not None:
            connection.close()
        return met


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.stop()


async def verdict_after(host: Host, fault: str) -> Verdict:
    """The verdict on a leader that was seen alive before `fault` was made of its process."""
    process = host.start()
    observer = Observer(PACE, dialer=host.dialer())
    seeing = asyncio.ensure_future(observer.observe(host.member()))
    try:
        async with asyncio.timeout(SOON_S):
            while observer.last_sign_s is None:
                await asyncio.sleep(0.005)
            getattr(process, fault)()
            return await seeing
    finally:
        seeing.cancel()
        await asyncio.wait({seeing})
        if fault == "suspend":
            process.resume()


async def test_a_killed_leader_is_gone(host: Host) -> None:
    assert await verdict_after(host, "kill") is Verdict.GONE


async def test_a_stopped_leader_is_frozen_since_the_kernel_accepts_and_nobody_shakes_hands(host: Host) -> None:
    assert await verdict_after(host, "suspend") is Verdict.FROZEN


async def test_a_leader_that_started_again_is_another_process(host: Host) -> None:
    host.start("2")
    async with asyncio.timeout(SOON_S):
        assert await Observer(PATIENT, dialer=host.dialer()).observe(host.member("1")) is Verdict.GONE


async def test_an_impostor_accuses_nobody(host: Host, tmp_path: Path) -> None:
    """A process at the leader's address that has no certificate of ours proves nothing about the leader."""
    host.start("2", Authority(tmp_path / "theirs"))
    assert await host.met(host.dialer()) is Probe.UNREACHABLE
    # Nor does one that answers in the clear.
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        plain = Member("a", "1", f"127.0.0.1:{server.getsockname()[1]}", "", "", 1, "1")
        probing = asyncio.ensure_future(probe(plain, PATIENT, boottime_s, host.dialer()))
        client, _ = await asyncio.to_thread(server.accept)
        with client:
            client.sendall(b'{"replica_id":"a","incarnation":"2"}\n')
            met, _, _ = await probing
    assert met is Probe.UNREACHABLE


async def test_who_is_no_replica_learns_nothing_and_accuses_nobody(host: Host, tmp_path: Path) -> None:
    host.start()
    assert await host.met(host.dialer()) is Probe.ALIVE
    assert await host.met(host.dialer("somebody")) is Probe.UNREACHABLE
    assert await host.met(host.dialer("replica", Authority(tmp_path / "theirs"))) is Probe.UNREACHABLE
    # It sends no handshake: the beacon waits for one, and says nothing.
    async with asyncio.timeout(SOON_S):
        met, _, _ = await probe(host.member(), PACE, boottime_s, PLAIN)
    assert met in (Probe.MUTE, Probe.UNREACHABLE)


async def test_a_leader_whose_certificate_is_for_another_name_proves_nothing(host: Host) -> None:
    host.start()
    assert await host.met(host.dialer(server_name="replica")) is Probe.ALIVE
    assert await host.met(host.dialer(server_name="another")) is Probe.UNREACHABLE


async def test_many_silent_connections_do_not_keep_the_beacon_from_replicas(host: Host) -> None:
    """Sixty-four may knock at once; who does not shake hands in time makes room for others."""
    host.start()
    silent = [socket.create_connection(("127.0.0.1", host.port), timeout=5) for _ in range(70)]
    try:
        async with asyncio.timeout(SOON_S):
            while await host.met(host.dialer()) is not Probe.ALIVE:
                await asyncio.sleep(0.05)
    finally:
        for connection in silent:
            connection.close()
