"""Addresses as settings hold them. Pure: nothing is looked up."""

from __future__ import annotations

import ipaddress


def require_address(value: str, *, allow_empty: bool) -> None:
    """Raises ValueError unless `value` is host:port."""
    if not value and allow_empty:
        return
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise ValueError(f"{value!r} is not host:port")


def is_loopback(address: str) -> bool:
    """Whether only processes of this machine reach a port at this host:port."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost" or address.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_collector(value: str) -> None:
    """Raises ValueError unless `value` is the URL of a collector of traces."""
    scheme, _, address = value.partition("://")
    if scheme not in ("http", "https"):
        raise ValueError("a collector is an http:// or https:// URL, such as http://127.0.0.1:4317")
    require_address(address.rstrip("/"), allow_empty=False)
