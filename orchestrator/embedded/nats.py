"""A NATS server with JetStream, where the machine has one: for tests and benchmarks of what goes over a broker."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.processes import Process, ProcessFailed, inherited_environment

_READY_S = 30.0
# Debian puts it where only root's PATH looks.
_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/local/bin"


def nats_program() -> str | None:
    """The nats-server of this machine; None when there is none (Debian: `apt-get install nats-server`)."""
    return shutil.which("nats-server") or shutil.which("nats-server", path=_FOLDERS)


class NatsServer:
    """One server on a free port, its data below `folder`; a context manager that starts and stops it.

    `stop` and `start` take it away and bring it back, with its data, on its port. Raises ProcessFailed.
    """

    def __init__(self, folder: Path) -> None:
        program = nats_program()
        if program is None:
            raise ProcessFailed("there is no nats-server: install the package nats-server, or put it on PATH")
        (self.port,) = free_ports(1)
        argv = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(folder / "jetstream")]
        self.process = Process("nats-server", argv, inherited_environment(), folder / "nats-server.log")

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when it answers."""
        self.process.start()
        self.process.wait_until(self._answers, "no answer", _READY_S)

    def stop(self) -> None:
        """End it; its data stay."""
        self.process.stop()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        release_ports((self.port,))
