"""etcd that goes back in time: what the embedded cluster remembers after a restore, and after a wipe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.embedded.etcd import EtcdCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("history"), members=3, unsafe_no_fsync=True) as cluster:
        yield cluster


def read(cluster: EtcdCluster, key: str) -> tuple[str, int, int]:
    """The value of a key ('' if there is none), the revision and the cluster id."""
    value = cluster.etcdctl("get", "--print-value-only", key).strip()
    header = json.loads(cluster.etcdctl("get", key, "--write-out=json"))["header"]
    return value, header["revision"], header["cluster_id"]


def test_a_restored_cluster_has_forgotten_and_keeps_its_id(cluster: EtcdCluster, tmp_path: Path) -> None:
    cluster.etcdctl("put", "key", "early")
    early = read(cluster, "key")
    cluster.save_snapshot(tmp_path / "snapshot")
    cluster.etcdctl("put", "key", "late")
    assert read(cluster, "key")[1] == early[1] + 1
    cluster.restore(tmp_path / "snapshot")
    assert read(cluster, "key") == early


def test_a_wiped_cluster_has_nothing_and_keeps_its_id_unless_it_gets_another_token(cluster: EtcdCluster) -> None:
    cluster.etcdctl("put", "key", "value")
    *_, identity = read(cluster, "key")
    cluster.wipe()
    assert read(cluster, "key") == ("", 1, identity)
    cluster.wipe("another")
    value, revision, other = read(cluster, "key")
    assert (value, revision) == ("", 1)
    assert other != identity
