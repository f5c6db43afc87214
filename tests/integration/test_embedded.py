"""The embedded servers: they start, work, survive their faults, and leave nothing behind."""

from __future__ import annotations

import psycopg

from orchestrator.embedded.etcd import EtcdCluster


def test_three_members_share_what_one_was_told(etcd: EtcdCluster) -> None:
    etcd.etcdctl("put", "greeting", "hello")
    assert etcd.etcdctl("get", "greeting", "--print-value-only").strip() == "hello"
    assert len(etcd.endpoints) == 3


def test_a_test_gets_an_empty_database_of_its_own(database: str) -> None:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert row == (0,)
