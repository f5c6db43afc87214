"""Says by its exit status whether the process of this container answers: the standard library alone, for speed.

    python3 -IS healthcheck.py http PORT PATH     a GET that must be answered 200
    python3 -IS healthcheck.py grpc PORT          grpc.health.v1.Health/Check, which must answer SERVING

Where BATON_TLS_CERT_FILE or PARTICIPANT_TLS_CERT_FILE is set it speaks TLS, and shows that certificate. The server's it
does not check: that is the server of its own container, at 127.0.0.1, and no certificate is for that name.

It runs every few seconds in every container, so it must not load gRPC, which takes longer than all it does: the one
call that it makes is three HTTP/2 frames.
"""

from __future__ import annotations

import os
import socket
import sys

_TIMEOUT_S = 2.0

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_STREAM = 1
# A HealthCheckResponse {status: SERVING} as a gRPC message: not compressed, two bytes long, field 1 = 1.
_SERVING = b"\x00\x00\x00\x00\x02\x08\x01"
# An empty HealthCheckRequest: the server as a whole.
_REQUEST = b"\x00\x00\x00\x00\x00"


def main(arguments: list[str]) -> str | None:
    """Return what is wrong, or None."""
    match arguments:
        case ["http", port, path]:
            return check_http(int(port), path)
        case ["grpc", port]:
            return check_grpc(int(port))
    return __doc__


def check_http(port: int, path: str) -> str | None:
    """What is wrong with the answer to GET, or None. Raises OSError when nobody answers."""
    with _connect(port, "BATON", "http/1.1") as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    status, _, body = answer.partition(b"\r\n\r\n")
    if status.split(b" ", 2)[1:2] == [b"200"]:
        return None
    return f"{path}: {status.splitlines()[:1]} {body[:500]!r}"


def check_grpc(port: int) -> str | None:
    """What is wrong with the server's health, or None. Raises OSError when nobody answers."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    with _connect(port, "PARTICIPANT", "h2") as connection:
        connection.sendall(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, _STREAM, b"".join(map(_literal, headers.items())))
            + _frame(_DATA, _END_STREAM, _STREAM, _REQUEST)
        )
        message = _message(connection)
    return None if message == _SERVING else f"the server does not serve: it answered {message!r}"


def _connect(port: int, prefix: str, protocol: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), _TIMEOUT_S)
    cert, key = (os.environ.get(f"{prefix}_TLS_{part}_FILE") for part in ("CERT", "KEY"))
    if not cert:
        return connection
    # Loaded here alone: without TLS a check takes half the time.
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols([protocol])
    return context.wrap_socket(connection)


def _message(connection: socket.socket) -> bytes:
    """All data of the answer, up to the end of the stream."""
    data = b""
    while True:
        head = _exactly(connection, 9)
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
        payload = _exactly(connection, int.from_bytes(head[:3], "big"))
        if kind == _DATA and stream == _STREAM:
            data += payload
        ended = kind in (_DATA, _HEADERS) and flags & _END_STREAM
        if kind == _GOAWAY or (stream == _STREAM and (ended or kind == _RST_STREAM)):
            return data


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("the server hung up")
        data += part
    return data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(header: tuple[str, str]) -> bytes:
    """One header, as HPACK's literal without indexing and without Huffman coding."""
    name, value = (text.encode() for text in header)
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as problem:
        sys.exit(f"no answer: {problem}")
