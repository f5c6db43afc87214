"""Child processes for the demo, the development cluster, benchmarks and tests: none of them outlives its parent.

Every child carries the token of this run in its environment, and the reaper (see reaper.py), started before the
first child, kills whatever carries it as soon as this process has ended, in whatever way it did. Linux only.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.embedded.reaper import TOKEN_VARIABLE
from orchestrator.errors import BatonError

_ASK_INTERVAL_S = 0.01
_LOG_TAIL_BYTES = 4_000
_LOG_TAIL_LINES = 15


class ProcessFailed(BatonError):
    """A child process could not be started, ended when it should run, or did not get ready; quotes its log."""


class Process:
    """One child process, which can be killed, frozen and started again.

    `env` replaces the environment as a whole (the token of the run is added). Output goes to the end of `log_path`.
    All methods may be called from any thread; none but `wait`, `stop` and `restart` blocks.
    """

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], log_path: Path) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.env = dict(env)
        self.log_path = log_path
        self.suspended = False
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process. Raises ProcessFailed if it runs already or the program cannot be run."""
        if self.alive:
            raise ProcessFailed(f"{self.name} runs already, pid {self.pid}: kill or stop it first")
        env = {**self.env, TOKEN_VARIABLE: run_token()}
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            try:
                # A session of its own: Ctrl-C in the terminal reaches the parent alone, which then ends its
                # children in order.
                self._child = subprocess.Popen(
                    self.argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            except OSError as error:
                raise ProcessFailed(f"{self.name} cannot be started: {error} (command: {self.argv[0]})") from error
        self.suspended = False

    @property
    def pid(self) -> int:
        """The process id. Raises ProcessFailed if the process was never started."""
        return self._started().pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (a frozen one does)."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_status(self) -> int | None:
        """None while it runs or before it was started; negative is the signal that ended it."""
        return None if self._child is None else self._child.poll()

    def kill(self) -> None:
        """SIGKILL; does nothing if the process has ended."""
        self._started().kill()

    def terminate(self) -> None:
        """SIGTERM; does nothing if the process has ended."""
        self._started().terminate()

    def signal(self, number: signal.Signals) -> None:
        """Any other signal; does nothing if the process has ended."""
        self._started().send_signal(number)

    def suspend(self) -> None:
        """SIGSTOP: the process freezes where it is, with its connections open."""
        self.suspended = True
        self._started().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: a frozen process goes on."""
        self._started().send_signal(signal.SIGCONT)
        self.suspended = False

    def wait(self, timeout_s: float) -> int:
        """Wait for the end; returns the exit status, negative for a signal. Raises ProcessFailed after `timeout_s`."""
        try:
            return self._started().wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise self.failed(f"has not ended within {timeout_s} s") from None

    def wait_until(self, ready: Callable[[], bool], complaint: str, timeout_s: float) -> None:
        """Ask `ready` until it says yes. Raises ProcessFailed if the process ends, or after `timeout_s`."""
        give_up_at = time.monotonic() + timeout_s
        while not ready():
            if not self.alive:
                raise self.failed(f"ended with status {self.exit_status}")
            if time.monotonic() > give_up_at:
                raise self.failed(f"{complaint} after {timeout_s:.1f} s")
            time.sleep(_ASK_INTERVAL_S)

    def run(self, timeout_s: float) -> None:
        """Start the process and wait for its success. Raises ProcessFailed if it fails, or after `timeout_s`."""
        self.start()
        try:
            status = self.wait(timeout_s)
        except BaseException:
            self.kill()
            raise
        if status != 0:
            raise self.failed(f"ended with status {status}")

    async def wait_exit(self) -> int:
        """Wait for the end, without a thread and without polling; returns the exit status."""
        child = self._started()
        if child.poll() is not None:
            return child.returncode
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(child.pid)
        except ProcessLookupError:
            # Another thread has just collected the status.
            return child.wait()
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return child.wait()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the process in order (SIGTERM, waking it if it is frozen), and with SIGKILL after `timeout_s`."""
        if self._child is None:
            return
        self.terminate()
        self.resume()
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._child.wait(timeout_s)

    def restart(self, timeout_s: float = 5.0) -> None:
        """Stop the process if it runs, then start it with the same command and environment."""
        self.stop(timeout_s)
        self.start()

    def failed(self, what: str) -> ProcessFailed:
        """An error that says what is wrong with this process and quotes the end of its log."""
        return ProcessFailed(f"{self.name} {what}. The end of {self.log_path}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines that the process wrote."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return "\n".join(f"    {line}" for line in lines[-_LOG_TAIL_LINES:]) or "    (empty)"

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise ProcessFailed(f"{self.name} was never started")
        return self._child


@dataclass(frozen=True, slots=True)
class _Reaper:
    owner: int
    token: str
    process: subprocess.Popen[bytes]
    # The write end of the pipe: it is never written to again, and closed by the end of this process alone.
    lifeline: int


_lock = threading.Lock()
_reaper: _Reaper | None = None


def run_token() -> str:
    """The token that marks every child of this run; starts the reaper if none stands by.

    A program that hides the environment of its children (Postgres) must show the token on their command lines.
    Raises ProcessFailed if the reaper does not start.
    """
    global _reaper
    with _lock:
        # A fork has a copy of the variable but is not the parent whose end its own children must not survive.
        if _reaper is None or _reaper.owner != os.getpid():
            _reaper = _start_reaper(secrets.token_hex(8))
        elif _reaper.process.poll() is not None:
            os.close(_reaper.lifeline)
            _reaper = _start_reaper(_reaper.token)
        return _reaper.token


def _start_reaper(token: str) -> _Reaper:
    script = Path(__file__).with_name("reaper.py")
    read_end, lifeline = os.pipe()  # both close on exec: no child holds the lifeline
    try:
        # Without a token: if this run was started by another one, the reaper of that one must leave ours alone,
        # which ends when this process does.
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            env=inherited_environment(TOKEN_VARIABLE),
            stdin=read_end,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        os.close(lifeline)
        raise ProcessFailed(f"the reaper cannot be started: {error}") from error
    finally:
        os.close(read_end)
    os.write(lifeline, token.encode() + b"\n")
    if process.stdout is None or process.stdout.readline() != b"ready\n":
        os.close(lifeline)
        raise ProcessFailed(f"the reaper did not start: run `{sys.executable} -I -S {script}` to see why")
    process.stdout.close()
    return _Reaper(os.getpid(), token, process, lifeline)


def descendants(ancestor: int) -> set[int]:
    """The pids of all children of a process, and of their children."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # pid (command, with any characters) state parent ...
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # gone while we looked
    found = {ancestor}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return found - {ancestor}


def inherited_environment(*dropped_prefixes: str) -> dict[str, str]:
    """The environment of this process, without variables of those prefixes, which would configure the child."""
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped_prefixes)}
