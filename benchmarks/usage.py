"""What a process of this machine uses, as the kernel counts it."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def resident_bytes(pid: int | None = None) -> int:
    """The resident memory of a process, by default of this one."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def cpu_s(pid: int) -> float:
    """The CPU seconds that a process has used."""
    # The name of the program, in parentheses, may have spaces.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
