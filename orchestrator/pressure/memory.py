"""How much memory this process holds, and how much it may."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Of what a container may have: the rest is for what comes between two looks.
_CONTAINER_SHARE = 0.85
_TRIM_INTERVAL_S = 10.0
# Version 2 of cgroups, then version 1. Without a limit they say "max", or a number beyond any machine.
_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_NO_LIMIT_BYTES = 1 << 60


def held_bytes() -> int:
    """The memory of this process that is in RAM."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES


def limit_bytes(asked: int) -> int:
    """The limit that was set, else most of what the container may have; 0 where there is none."""
    if asked:
        return asked
    for file in _CONTAINER_LIMITS:
        try:
            text = file.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _NO_LIMIT_BYTES:
            return int(int(text) * _CONTAINER_SHARE)
    return 0


class Trim:
    """Gives memory that is free back to the machine: the allocator keeps it else, and the door would stay shut."""

    def __init__(self) -> None:
        self._due_at_s = 0.0
        # Not every C library has it.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    async def run_if_due(self) -> None:
        """Do so, unless it was done a moment ago."""
        if self._trim is not None and time.monotonic() >= self._due_at_s:
            self._due_at_s = time.monotonic() + _TRIM_INTERVAL_S
            # ctypes lets the main loop run meanwhile.
            await asyncio.to_thread(self._trim, 0)
