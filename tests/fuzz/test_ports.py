"""Any bytes at any port of a replica: it hangs up, or says what is wrong, and goes on serving everybody else."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.embedded.loopback import http_get
from orchestrator.embedded.servers import Replica

from .conftest import most_bytes
from .rounds import rounds

_SEND_S = 2.0
# Who must answer has all the time that a busy machine may want.
_ANSWER_S = 30.0
_ANSWER_BYTES_MAX = 1_000_000
_MEMORY_MAX_BYTES = 350_000_000
_CONNECTIONS = 300
_PORTS = ("api", "http", "peer")


def address(replica: Replica, port: str) -> tuple[str, int]:
    """Where a port of the replica is."""
    listening = {"api": replica.api_address, "http": replica.http_address, "peer": replica.peer_address}[port]
    host, _, number = listening.rpartition(":")
    return host, int(number)


def told(replica: Replica, port: str, data: bytes, *, wait: bool = True, within_s: float = _SEND_S) -> bytes:
    """What the port answers to these bytes, until it hangs up, or `within_s` is over, or it says no more than that."""
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection(address(replica, port), within_s) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while wait and len(answer) < _ANSWER_BYTES_MAX and (piece := connection.recv(65_536)):
            answer += piece
            if port == "peer" and answer.count(b"\n") > 1:
                # It beats for as long as somebody listens.
                break
    return answer


def serves(replica: Replica) -> None:
    """Check that the process lives, answers on all ports, and has not grown."""
    replica.wait_until(
        lambda: http_get(f"http://{replica.http_address}/readyz", 10.0) is not None, "no HTTP", _ANSWER_S
    )
    # Those who have hung up just now may still count among its connections, which are bounded.
    replica.wait_until(lambda: b"\n" in told(replica, "peer", b"", within_s=_ANSWER_S), "no beat", _ANSWER_S)
    settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    assert told(replica, "api", settings, within_s=_ANSWER_S)
    assert most_bytes(replica) < _MEMORY_MAX_BYTES


_requests = st.builds(
    "{} {} {}\r\n{}\r\n{}".format,
    st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE", "get", "", "G" * 70_000]),
    st.one_of(
        st.sampled_from(
            ["/metrics", "/readyz", "/healthz", "/leaderz", "/failpoints/log.append", "//", "http://x", "/%00", "*"]
        ),
        st.text(max_size=20),
        st.just("/" + "a" * 70_000),
    ),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/9.9", "", "HTTP/x"]),
    st.lists(
        st.sampled_from(
            (
                *("Content-Length: -1\r\n", "Content-Length: 99999999999\r\n", "Content-Length: x\r\n", "\x00\r\n"),
                *("Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n", "Connection: close\r\n"),
                *("A: b\r\n" * 200, "A" * 70_000),
            )
        ),
        max_size=3,
    ).map("".join),
    st.text(max_size=10),
).map(lambda text: text.encode(errors="replace"))


@rounds(100)
@given(_requests)
def test_every_http_request_is_answered_or_hung_up_on(replica: Replica, request: bytes) -> None:
    answer = told(replica, "http", request)
    assert b"Traceback" not in answer
    # Without a version it is a request of HTTP/0.9, whose answers have no status line.
    assert not answer or answer.startswith(b"HTTP/") or len(answer) < 2_000
    assert b" 500 " not in answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("port", _PORTS)
def test_any_bytes_are_hung_up_on(replica: Replica, port: str) -> None:
    @rounds(40)
    @given(st.one_of(st.binary(max_size=200), st.binary(max_size=50).map(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".__add__)))
    def any_bytes(data: bytes) -> None:
        told(replica, port, data, wait=port == "http")

    any_bytes()
    serves(replica)


@pytest.mark.parametrize("port", _PORTS)
def test_bytes_without_an_end_are_not_kept(replica: Replica, port: str) -> None:
    before = most_bytes(replica)
    unit = os.urandom(1_000_000)
    for data in (unit * 40, b"GET /" + b"a" * 40_000_000, b"\x00" * 40_000_000):
        told(replica, port, data)
    assert most_bytes(replica) - before < 30_000_000
    serves(replica)


@contextlib.contextmanager
def silent(replica: Replica, port: str, data: bytes) -> Iterator[None]:
    """Many connections that have begun to say something, and say no more."""
    with contextlib.ExitStack() as stack:
        for _ in range(_CONNECTIONS):
            with contextlib.suppress(OSError):
                connection = stack.enter_context(socket.create_connection(address(replica, port), _SEND_S))
                connection.sendall(data)
        yield


@pytest.mark.parametrize(("port", "data"), [("api", b"PRI"), ("peer", b""), ("peer", b"x"), ("http", b"GET /met")])
def test_connections_that_say_nothing_are_bounded(replica: Replica, port: str, data: bytes) -> None:
    before = most_bytes(replica)
    with silent(replica, port, data):
        assert replica.alive
        for other in _PORTS:
            # The ports of the others are served meanwhile.
            if other != port:
                answer = told(replica, other, b"GET /healthz HTTP/1.0\r\n\r\n", within_s=_ANSWER_S)
                assert answer or other == "api"
    assert most_bytes(replica) - before < 60_000_000
    serves(replica)
