"""The process that outlives its parent by a moment, and kills whatever that parent had started.

It is run by file name (`python -I -S reaper.py`), so it imports the standard library alone and starts in milliseconds.
Its stdin is a pipe whose only other end the parent holds. The first line is the token of the run; then nothing
comes any more until the kernel closes the pipe, however the parent ended: an exit, Ctrl-C, a crash, kill -9.

A process belongs to the run if the token is in its environment, which children inherit, or in its command line:
Postgres overwrites the environment of its backends with their title, and that title carries `cluster_name`. The
parent does not carry the token, and neither does this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

# Set in the environment of every process that a run starts.
TOKEN_VARIABLE = "BATON_REAPER"

TOKEN_CHARS_MIN = 16

_SCAN_INTERVAL_S = 0.01
# A process in the midst of exec shows no environment for some microseconds: one empty scan proves nothing.
_EMPTY_SCANS = 3
# A process that cannot be killed (another user's, or stuck in the kernel) must not keep the reaper for ever.
_GIVE_UP_S = 60.0


def pids_of(token: str) -> set[int]:
    """The processes that carry `token`, without zombies and without the caller. Raises ValueError for no token."""
    # An empty token would be found in every process of the machine.
    if len(token) < TOKEN_CHARS_MIN:
        raise ValueError(f"{token!r} is no token of a run")
    needle = token.encode()
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        if needle in _read(f"/proc/{name}/environ") or needle in _read(f"/proc/{name}/cmdline"):
            found.add(int(name))
    return found


def _read(path: str) -> bytes:
    # A process may be gone by now, or hide its environment (another user's, or in another user namespace).
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def kill_all(token: str) -> set[int]:
    """SIGKILL every process that carries `token`, until none is left. Returns the pids that were killed."""
    killed: set[int] = set()
    give_up_at = time.monotonic() + _GIVE_UP_S
    empty_scans = 0
    while empty_scans < _EMPTY_SCANS and time.monotonic() < give_up_at:
        found = pids_of(token)
        empty_scans = 0 if found else empty_scans + 1
        # All are stopped before the first is killed, so that none forks, or restarts another, in between.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                _signal(pid, number)
        killed |= found
        time.sleep(_SCAN_INTERVAL_S)
    return killed


def _signal(pid: int, number: int) -> None:
    # It may be gone already, or not ours to kill: the next scan tells.
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def remove_shared_memory(creators: set[int]) -> None:
    """Remove the System V segments that nobody is attached to and that one of `creators` (pids) made.

    Postgres holds one as the lock on its data directory, and cannot remove it when it is killed.
    """
    for line in _read("/proc/sysvipc/shm").splitlines()[1:]:
        fields = line.split()
        shmid, creator, attached, owner = int(fields[1]), int(fields[4]), int(fields[6]), int(fields[7])
        if creator in creators and attached == 0:
            _remove_segment(shmid, owner)


def _remove_segment(shmid: int, owner: int) -> None:
    import ctypes  # rarely needed, and it would double the time to start

    # Its owner may remove it, and in a container not even root otherwise.
    me = os.geteuid()
    with contextlib.suppress(OSError):
        os.seteuid(owner)
    ctypes.CDLL(None).shmctl(shmid, 0, None)  # 0 is IPC_RMID
    os.seteuid(me)


def main() -> None:
    """Wait for the end of the parent, then leave nothing behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    token = sys.stdin.readline().strip()
    if len(token) < TOKEN_CHARS_MIN:
        # The parent ended before it had said a token, so it has started nothing either.
        return
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    # The parent has read this line; whoever holds the other end of stdout must not wait for us.
    os.close(1)
    sys.stdin.read()
    remove_shared_memory(kill_all(token))


if __name__ == "__main__":
    main()
