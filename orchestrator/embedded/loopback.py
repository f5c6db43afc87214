"""Ports of 127.0.0.1 for the servers that a run starts, and plain HTTP questions to what listens there."""

from __future__ import annotations

import json
import random
import socket
import ssl
import threading
from collections.abc import Iterable, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from orchestrator.embedded.processes import ProcessFailed

_lock = threading.Lock()
_reserved: dict[int, socket.socket] = {}


def free_ports(count: int) -> tuple[int, ...]:
    """`count` distinct free ports, in ascending order, reserved for this process until it ends or releases them.

    They lie below the range from which the kernel takes the ports of outgoing connections: a server that is killed
    finds its port still free when it comes back. The reservation, which all runs on this machine respect, is an
    abstract Unix socket of the port's name, which the kernel drops with the process. Raises ProcessFailed if too few
    are free.
    """
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = list(range(10_000, first_ephemeral) if first_ephemeral > 12_000 else range(20_000, 65_000))
    random.shuffle(candidates)
    ports: list[int] = []
    with _lock:
        while len(ports) < count and candidates:
            if _reserve(port := candidates.pop()):
                ports.append(port)
    if len(ports) < count:
        release_ports(ports)
        raise ProcessFailed(f"fewer than {count} ports of 127.0.0.1 are free")
    return tuple(sorted(ports))


def reserve_ports(ports: Iterable[int]) -> None:
    """Reserve ports of an earlier run. Raises ProcessFailed, naming the port, if one is no longer free."""
    taken: list[int] = []
    with _lock:
        for port in ports:
            if not _reserve(port):
                break
            taken.append(port)
        else:
            return
    release_ports(taken)
    raise ProcessFailed(f"port {port} of 127.0.0.1, which the data of an earlier run needs, is in use")


def kept_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """A reserved port for each name: the one that `file` holds from an earlier run, else a free one, written into it.

    Raises ProcessFailed, naming the port, if one of an earlier run is no longer free.
    """
    try:
        known: dict[str, int] = json.loads(file.read_text())
    except FileNotFoundError:
        known = {}
    except ValueError as error:
        raise ProcessFailed(f"{file} is damaged ({error}): remove it, or take another folder") from None
    reserve_ports(known[name] for name in names if name in known)
    fresh = [name for name in names if name not in known]
    ports = {**known, **dict(zip(fresh, free_ports(len(fresh)), strict=True))}
    file.write_text(json.dumps(ports, indent=1))
    return {name: ports[name] for name in names}


def _reserve(port: int) -> bool:
    reservation = socket.socket(socket.AF_UNIX)
    try:
        reservation.bind(f"\0baton/port/{port}")
        with socket.socket() as probe:
            # As servers do: a port in TIME_WAIT is free, one that somebody listens on is not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError:
        reservation.close()
        return False
    _reserved[port] = reservation
    return True


def release_ports(ports: Sequence[int]) -> None:
    """Give reserved ports back; others are ignored."""
    with _lock:
        for port in ports:
            if (reservation := _reserved.pop(port, None)) is not None:
                reservation.close()


# A proxy of the user's environment knows nothing of our ports.
_direct = build_opener(ProxyHandler({}))


def http_get(url: str, timeout_s: float = 1.0, context: ssl.SSLContext | None = None) -> bytes | None:
    """The body of a successful answer; None if there was none within `timeout_s`. Blocks. `context` is for https."""
    opener = _direct if context is None else build_opener(ProxyHandler({}), HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=timeout_s) as reply:
            return bytes(reply.read())
    except (URLError, HTTPException, OSError):  # the server may end in the middle of its answer
        return None
