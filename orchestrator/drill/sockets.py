"""What a link does to sockets that asyncio has no word for: resets, lost packets, and network namespaces."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# <linux/filter.h>, <asm-generic/socket.h>, <linux/sched.h>
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_CLONE_NEWNET = 0x40000000

# One instruction of classic BPF, "return 0": keep nothing of any packet.
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
_PROGRAM = struct.pack("HP", 1, ctypes.addressof(_DROP_ALL))

_BACKLOG = 512


def reset_on_close(sock: Any) -> None:
    """Let the next close of `sock` send a RST: what a host says that has forgotten the connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def lose_packets(sock: Any) -> None:
    """Drop every packet that arrives at `sock`, as a cable that was pulled does.

    Nothing is acknowledged, so the peer sends again and again, and in the end gives up. At a listening socket the
    attempts to connect are dropped: the client waits, neither accepted nor refused. Needs no rights.
    """
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM)


def keep_packets(sock: Any) -> None:
    """Undo `lose_packets`; what was sent meanwhile arrives when the peer's kernel sends it again."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except FileNotFoundError:
        return  # none is attached


@contextmanager
def namespace(path: Path | None) -> Generator[None]:
    """Within, the calling thread makes its sockets in the network namespace at `path`; None is its own.

    A socket stays in the namespace it was made in. There must be no await within: other tasks of the thread would
    find themselves there. Raises OSError (PermissionError without CAP_SYS_ADMIN).
    """
    if path is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def _enter(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter a network namespace: {os.strerror(number)}")


def listen(host: str, port: int, where: Path | None = None) -> socket.socket:
    """A listening socket that does not block. Raises OSError."""
    with namespace(where):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def outgoing(where: Path | None = None) -> socket.socket:
    """A socket to connect with, which does not block and sends small messages at once. Raises OSError."""
    with namespace(where):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
