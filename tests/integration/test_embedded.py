"""The embedded servers: they start, survive their faults, come back with their data, and say what is wrong."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psycopg
import pytest

from orchestrator.embedded.cluster import data_dir_for
from orchestrator.embedded.etcd import EtcdCluster, sound_version
from orchestrator.embedded.loopback import kept_ports, release_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, ProcessFailed


def test_etcd_members_share_what_one_was_told(etcd: EtcdCluster) -> None:
    etcd.etcdctl("put", "greeting", "hello")
    assert etcd.etcdctl("get", "greeting", "--print-value-only").strip() == "hello"
    assert len(etcd.endpoints) == 3


def test_a_killed_etcd_member_comes_back_on_its_ports(etcd: EtcdCluster) -> None:
    member = etcd.members[1]
    member.kill()
    member.wait(30)
    assert not member.healthy()
    member.start()
    member.wait_healthy()
    assert etcd.etcdctl("endpoint", "status").count(member.endpoint) == 1


def test_a_frozen_etcd_member_is_not_healthy_until_it_is_woken(etcd: EtcdCluster) -> None:
    member = etcd.members[2]
    member.suspend()
    try:
        assert not member.healthy()
    finally:
        member.resume()
    member.wait_healthy()


def test_etcd_keeps_its_data_and_its_ports(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path / "etcd", 1) as first:
        first.etcdctl("put", "kept", "yes")
        endpoints = first.endpoints
    with EtcdCluster(tmp_path / "etcd", 1) as second:
        assert second.endpoints == endpoints
        assert second.etcdctl("get", "kept", "--print-value-only").strip() == "yes"
    with pytest.raises(ProcessFailed, match="holds a cluster of 1 members, not 3"):
        EtcdCluster(tmp_path / "etcd", 3)


def test_etcd_with_authentication_and_tls_serves_those_who_may(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path / "etcd", 1, auto_tls=True) as cluster:
        cluster.enable_auth("baton", "secret")
        cluster.etcdctl("put", "/baton/x", "1")
        assert cluster.etcdctl("get", "/baton/x", "--user=baton:secret", "--print-value-only").strip() == "1"


def test_etcd_that_cannot_start_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match=r"(?s)etcd-0 ended with status 2.*etcd-0\.log:\n +etcd --version"):
        EtcdCluster(tmp_path / "etcd", 1, extra_args=["--unknown-flag"]).__enter__()


@pytest.mark.parametrize(
    ("output", "sound"),
    [
        ("etcd Version: 3.4.21", False),
        ("etcd Version: 3.4.22", True),
        ("etcd Version: 3.5.0", False),
        ("etcd Version: 3.5.5", False),
        ("etcd Version: 3.5.6\nGit SHA: x", True),
        ("etcd Version: 3.10.1", True),
        ("command not found", False),
    ],
)
def test_an_etcd_that_may_corrupt_its_data_is_passed_over(output: str, sound: bool) -> None:
    assert sound_version(output) is sound


def test_a_test_gets_an_empty_database_of_its_own(database: str) -> None:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert row == (0,)


@pytest.mark.parametrize("way", ["fast", "immediate", "kill"])
def test_postgres_keeps_what_was_committed(postgres: Postgres, database: str, way: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE kept (x int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    if way == "kill":
        postgres.kill()
        postgres.wait(30)
        postgres.start()
    else:
        postgres.restart(mode="fast" if way == "fast" else "immediate")
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT x FROM kept").fetchone() == (1,)


def test_a_frozen_postgres_takes_no_connections_until_it_is_woken(postgres: Postgres) -> None:
    postgres.suspend()
    try:
        assert not postgres.accepts_connections()
    finally:
        postgres.resume()
    assert postgres.accepts_connections()


def test_postgres_starts_again_on_its_folder(tmp_path: Path) -> None:
    with Postgres(tmp_path / "postgres") as first, psycopg.connect(first.create_database("kept")) as connection:
        connection.execute("CREATE TABLE kept (x int)")
    with Postgres(tmp_path / "postgres") as second, psycopg.connect(second.dsn("kept")) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_postgres_works_below_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with Postgres(tmp_path / ("long" * 30)) as server:
        assert server.socket_dir is None
        assert server.accepts_connections()


def test_postgres_that_cannot_start_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match=r"(?s)postgres ended with status.*no_such_setting"):
        Postgres(tmp_path / "postgres", settings={"no_such_setting": "1"}).__enter__()


def test_a_process_that_cannot_run_says_which(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match=r"ghost cannot be started: .*/no/such/program"):
        Process("ghost", ["/no/such/program"], {}, tmp_path / "log").start()
    with pytest.raises(ProcessFailed, match="ghost was never started"):
        Process("ghost", ["/no/such/program"], {}, tmp_path / "log").kill()


async def test_the_end_of_a_process_wakes_whoever_waits_for_it(tmp_path: Path) -> None:
    process = Process("waiter", [sys.executable, "-c", "import signal; signal.pause()"], {}, tmp_path / "log")
    process.start()
    waiting = asyncio.create_task(process.wait_exit())
    await asyncio.sleep(0)
    process.kill()
    assert await asyncio.wait_for(waiting, 30) == -9
    assert await process.wait_exit() == -9


def test_ports_are_kept_by_name_and_new_names_get_new_ones(tmp_path: Path) -> None:
    first = kept_ports(tmp_path / "ports.json", ["a", "b"])
    release_ports(tuple(first.values()))
    second = kept_ports(tmp_path / "ports.json", ["b", "c"])
    release_ports(tuple(second.values()))
    assert second["b"] == first["b"]
    assert second["c"] not in first.values()
    (tmp_path / "ports.json").write_text("{")
    with pytest.raises(ProcessFailed, match=r"ports\.json is damaged"):
        kept_ports(tmp_path / "ports.json", ["a"])


def test_every_run_gets_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {data_dir_for("demo") for _ in range(3)}
    assert len(folders) == 3
    assert all(folder.parent == tmp_path / ".baton" and folder.is_dir() for folder in folders)
    (tmp_path / "file").touch()
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "file")
    with pytest.raises(ProcessFailed, match="Name a folder with --data"):
        data_dir_for("demo")
