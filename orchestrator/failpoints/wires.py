"""How the absence of the other side looks on each wire: the errors that an armed failpoint raises in its place.

They are those of the libraries, not ours, so that the code under test takes them for what they mean.
"""

from __future__ import annotations

import errno
import re

import grpc
import grpc.aio
import psycopg

from orchestrator.failpoints.effects import Wire

_SQLSTATE = re.compile(r"[0-9A-Z]{5}")


def is_kind(wire: Wire, kind: str) -> bool:
    """Whether the wire knows an error of this kind."""
    match wire:
        case Wire.POSTGRES:
            return _SQLSTATE.fullmatch(kind) is not None and _of_sqlstate(kind) is not None
        case Wire.GRPC:
            return kind in grpc.StatusCode.__members__ and kind != "OK"
        case Wire.TCP:
            return isinstance(getattr(errno, kind, None), int)


def kinds(wire: Wire) -> str:
    """What kinds of error a wire knows, for people."""
    match wire:
        case Wire.POSTGRES:
            return "an SQLSTATE, such as 25006"
        case Wire.GRPC:
            return "a gRPC status code, such as UNAVAILABLE"
        case Wire.TCP:
            return "the name of an errno, such as ECONNREFUSED"


def failure(wire: Wire, kind: str, message: str) -> Exception:
    """An error of this kind; without one, the error of a connection that is lost."""
    match wire:
        case Wire.POSTGRES:
            return (_of_sqlstate(kind) or psycopg.OperationalError)(message)
        case Wire.GRPC:
            code = grpc.StatusCode[kind or "UNAVAILABLE"]
            return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=message)
        case Wire.TCP:
            number: int = getattr(errno, kind or "ECONNRESET")
            return OSError(number, message)


def _of_sqlstate(sqlstate: str) -> type[psycopg.Error] | None:
    try:
        return psycopg.errors.lookup(sqlstate)
    except KeyError:
        return None
