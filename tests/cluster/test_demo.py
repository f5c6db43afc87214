"""`baton demo` and `baton dev` as a user runs them: the whole main job, and nothing left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.embedded.authority import Authority

_DEMO_MAX_S = 120.0
_READY_MAX_S = 60.0
_END_MAX_S = 20.0
_MARK = "DEMO_TEST_MARK"


@dataclass(slots=True)
class Command:
    """A command of `baton` as a process of its own, with its output in a file."""

    process: subprocess.Popen[bytes]
    mark: str
    data: Path
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.output() or self.process.poll() is not None, _READY_MAX_S, self.output)
        assert text in self.output(), self.output()

    def left_behind(self) -> list[str]:
        """The command lines of all processes that carry the mark of this run, or name its folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == self.process.pid:
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"{_MARK}={self.mark}".encode() in environment or str(self.data).encode() in command:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found


def wait_until(true: Callable[[], bool], timeout_s: float, complain: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > give_up_at:
            pytest.fail(f"not within {timeout_s} s: {complain()}")
        time.sleep(0.05)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def start(*arguments: str, **more: str) -> Command:
        mark, data, log = uuid.uuid4().hex, tmp_path / "data", tmp_path / "output.txt"
        environment = {**os.environ, _MARK: mark, "COLUMNS": "160", **more}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", *arguments, "--data", str(data)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=tmp_path,
            )
        commands.append(Command(process, mark, data, log))
        return commands[-1]

    yield start
    for command in commands:
        if command.process.poll() is None:
            command.process.kill()
        command.process.wait(_END_MAX_S)
        wait_until(lambda command=command: not command.left_behind(), _END_MAX_S, command.left_behind)  # type: ignore[misc]


def assert_ended(command: Command, status: int) -> None:
    """The command has ended with this status, and nothing that it started is there any more."""
    assert command.process.wait(_END_MAX_S) == status, command.output()
    wait_until(lambda: not command.left_behind(), _END_MAX_S, command.left_behind)


@pytest.mark.parametrize("options", [[], ["--tls"]], ids=["plain", "tls"])
def test_the_demo_holds_every_invariant_through_a_killed_and_a_frozen_leader(
    run: Callable[..., Command], tmp_path: Path, options: list[str]
) -> None:
    # What a terminal says about somebody's cluster is not about the demo's own.
    elsewhere = Authority(tmp_path / "elsewhere").ca_file
    command = run("demo", *options, BATON_CA_FILE=str(elsewhere), BATON_TOKEN="nobodys-token-that-is-long-enough")
    wait_until(lambda: command.process.poll() is not None, _DEMO_MAX_S, command.output)
    output = command.output()
    assert_ended(command, 0)
    assert "every invariant holds" in output
    assert output.count("holds") >= 10
    assert "SIGKILL to replica-" in output
    assert "SIGSTOP to replica-" in output
    assert output.count("its first step was done") == 2
    assert "line 153 (invoice 700192): Quantity 'two' is not an integer" in output
    assert "0 failed" in output
    assert f"data: {command.data}" in output
    assert list((command.data / "logs").glob("replica-*.log"))
    assert (command.data / "tls").exists() == bool(options)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_ctrl_c_or_kill_ends_the_demo_and_all_that_it_started(
    run: Callable[..., Command], number: signal.Signals, status: int
) -> None:
    command = run("demo")
    command.wait_for("SIGKILL to replica-")
    command.process.send_signal(number)
    assert_ended(command, status)


def test_dev_says_how_to_use_it_and_ends_with_sigterm(run: Callable[..., Command]) -> None:
    command = run("dev")
    command.wait_for("kill -9 ")
    output = command.output()
    endpoints = next(line.split("=", 1)[1] for line in output.splitlines() if "export BATON_ENDPOINTS=" in line)
    started = next(line for line in output.splitlines() if " saga start order " in line)
    done = subprocess.run(
        ["/bin/sh", "-c", started],
        env={**os.environ, "BATON_ENDPOINTS": endpoints},
        capture_output=True,
        text=True,
        timeout=_READY_MAX_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "COMPLETED" in done.stdout
    command.process.terminate()
    assert_ended(command, 143)


def test_a_file_that_is_no_orders_is_refused_before_anything_starts(
    run: Callable[..., Command], tmp_path: Path
) -> None:
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    command = run("demo", "--orders", str(tmp_path / "no.csv"))
    assert_ended(command, 1)
    assert "the header lacks InvoiceNo" in command.output()
    assert not (command.data).exists()
