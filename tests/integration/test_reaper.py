"""However a run ends, no process of it stays behind, and no process of anybody else is touched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.embedded import reaper
from orchestrator.embedded.loopback import free_ports, release_ports, reserve_ports
from orchestrator.embedded.processes import ProcessFailed

_GONE_WITHIN_S = 60.0

# A run with etcd, Postgres and a child that ignores every polite request; says who it is, then waits.
_RUN = """
import signal, sys
from pathlib import Path
from orchestrator.embedded.etcd import EtcdCluster
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, run_token

# Whoever runs in the background of a shell has inherited that it is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(sys.argv[1])
with EtcdCluster(folder / "etcd", 1) as etcd, Postgres(folder / "postgres") as postgres:
    stubborn = [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"]
    child = Process("stubborn", stubborn, {}, folder / "stubborn.log")
    child.start()
    print(run_token(), etcd.endpoints[0], postgres.dsn(), flush=True)
    try:
        signal.pause()
    finally:
        child.kill()
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A Python that runs etcd and Postgres, as it introduced itself."""

    process: subprocess.Popen[str]
    token: str
    etcd_port: int
    dsn: str


@contextmanager
def run(folder: Path) -> Iterator[Run]:
    process = subprocess.Popen([sys.executable, "-c", _RUN, str(folder)], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            assert len(line) == 3, "the run did not start"
            yield Run(process, line[0], int(line[1].rpartition(":")[2]), line[2])
        finally:
            process.kill()


def wait_until(true: Callable[[], bool], complaint: Callable[[], str]) -> None:
    give_up_at = time.monotonic() + _GONE_WITHIN_S
    while not true():
        assert time.monotonic() < give_up_at, complaint()
        time.sleep(0.01)


def wait_gone(token: str) -> None:
    wait_until(lambda: not reaper.pids_of(token), lambda: f"still there: {reaper.pids_of(token)}")


def lasting(token: str) -> set[int]:
    """The processes of a run that stay: without Postgres' backends, of which one served the question if it is ready."""
    titles = {pid: _title(pid) for pid in reaper.pids_of(token)}
    return {pid for pid, title in titles.items() if b"127.0.0.1(" not in title and b"autovacuum worker" not in title}


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # gone meanwhile: it may be a backend
        return b"127.0.0.1("


def can_be_had(port: int) -> bool:
    try:
        reserve_ports([port])
    except ProcessFailed:
        return False
    release_ports([port])
    return True


def segments_made_by(pids: set[int]) -> set[int]:
    """The System V segments, by id, whose creator is one of `pids`."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {int(fields[1]) for line in lines if int((fields := line.split())[4]) in pids}


def test_a_parent_killed_by_sigkill_leaves_nothing_behind(tmp_path: Path) -> None:
    with run(tmp_path) as victim:
        pids = reaper.pids_of(victim.token)
        assert len(pids) >= 4  # etcd, the stubborn child, Postgres and its backends
        victim.process.kill()
        wait_gone(victim.token)
    wait_until(lambda: not segments_made_by(pids), lambda: "shared memory stays behind")
    # A process that is being killed shows no environment any more while it still has its files, and its port.
    wait_until(lambda: can_be_had(victim.etcd_port), lambda: "the port of etcd stays taken")


def test_frozen_children_of_a_killed_parent_go_too(tmp_path: Path) -> None:
    with run(tmp_path) as victim:
        for pid in reaper.pids_of(victim.token):
            with suppress(ProcessLookupError):  # the backend that was asked whether Postgres is ready
                os.kill(pid, signal.SIGSTOP)
        victim.process.kill()
        wait_gone(victim.token)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_parent_ended_by_a_signal_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with run(tmp_path) as victim:
        victim.process.send_signal(number)
        victim.process.wait(_GONE_WITHIN_S)
        wait_gone(victim.token)


def test_of_two_runs_at_once_the_end_of_one_leaves_the_other_alone(tmp_path: Path) -> None:
    with run(tmp_path / "first") as first, run(tmp_path / "second") as second:
        assert first.etcd_port != second.etcd_port
        before = lasting(second.token)
        first.process.kill()
        wait_gone(first.token)
        assert reaper.pids_of(second.token) >= before
        assert second.process.poll() is None
        second.process.send_signal(signal.SIGINT)
        second.process.wait(_GONE_WITHIN_S)
        wait_gone(second.token)


def test_a_second_run_on_the_same_folder_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    with run(tmp_path) as first:
        before = lasting(first.token)
        second = subprocess.run(
            [sys.executable, "-c", _RUN, str(tmp_path)], capture_output=True, text=True, timeout=_GONE_WITHIN_S
        )
        assert second.returncode != 0
        assert "is in use" in second.stderr
        assert reaper.pids_of(first.token) >= before


@pytest.mark.parametrize("token", ["", "\n", "short"])
def test_what_is_no_token_belongs_to_no_process(token: str) -> None:
    # An empty one is found in every process of the machine.
    with pytest.raises(ValueError, match="is no token of a run"):
        reaper.pids_of(token)


@pytest.mark.parametrize("said", ["", "\n", "short\n"])
def test_a_parent_that_ended_before_it_said_a_token_has_nothing_killed(said: str) -> None:
    # kill_all is replaced before main runs: were its guard lost, this test must not kill the machine.
    script = (
        "import sys\n"
        "from orchestrator.embedded import reaper\n"
        "reaper.kill_all = lambda token: sys.exit(f'would have killed by {token!r}')\n"
        "reaper.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], input=said, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_runs_on_one_machine_are_never_given_the_same_port() -> None:
    ports = free_ports(3)
    script = f"from orchestrator.embedded.loopback import reserve_ports; reserve_ports([{ports[1]}])"
    try:
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
        assert f"port {ports[1]} of 127.0.0.1" in other.stderr
    finally:
        release_ports(ports)
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert again.returncode == 0, again.stderr


def test_a_port_that_somebody_listens_on_is_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ProcessFailed, match=f"port {port} of 127.0.0.1"):
            reserve_ports([port])
