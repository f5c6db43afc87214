"""An address of its own at which one process after another serves a beacon; all of them end with the test."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.processes import Process, inherited_environment

SOON_S = 60.0


class BeaconHost:
    """Runs programs that serve a beacon, with the address as their first argument."""

    def __init__(self, folder: Path) -> None:
        self._ports = free_ports(1)
        (self.port,) = self._ports
        self.address = f"127.0.0.1:{self.port}"
        self._log_path = folder / "beacon.log"
        self._processes: list[Process] = []

    def run(self, program: str, *args: str) -> Process:
        """Start a program of Python text as a process, and wait until it listens."""
        argv = [sys.executable, "-c", program, self.address, *args]
        process = Process("beacon", argv, inherited_environment("BATON"), self._log_path)
        process.start()
        self._processes.append(process)
        process.wait_until(self._listens, "does not listen", SOON_S)
        return process

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End every process, and give the port back."""
        for process in self._processes:
            process.kill()
            process.wait(SOON_S)
        release_ports(self._ports)
