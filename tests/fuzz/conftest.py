"""A real replica for the tests of its ports, and of participants that misbehave towards it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.embedded.etcd import EtcdCluster
from orchestrator.embedded.loopback import free_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.servers import Replica

_WITHIN_S = 120.0
# A busy machine, whose Postgres is slow, is no reason to refuse a start: what is tried here is the requests.
_PATIENT = {"BATON_COMMIT_MAX_S": "0", "BATON_WRITE_ABSENCE_MAX_S": "0"}


@pytest.fixture(scope="module")
def replica(
    postgres: Postgres, etcd_single: EtcdCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    """A replica that leads a cluster of its own. It is the same process before and after all tests of a module."""
    folder: Path = tmp_path_factory.mktemp("replica")
    database = folder.name.replace("-", "_")
    env = {"BATON_CLUSTER": database, **_PATIENT}
    made = Replica("r1", free_ports(3), postgres.create_database(database), etcd_single.endpoints, env, folder)
    made.start()
    pid = made.pid
    try:
        asyncio.run(_until_ready(made))
        yield made
        assert made.alive, made.log_tail()
        assert made.pid == pid
    finally:
        made.stop()
        postgres.drop_database(database)


async def _until_ready(replica: Replica) -> None:
    try:
        await replica.wait_ready(_WITHIN_S)
    finally:
        await replica.close()


def most_bytes(replica: Replica) -> int:
    """The most memory that the process has ever had, in bytes."""
    for line in Path(f"/proc/{replica.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"{replica.name} is no process")
