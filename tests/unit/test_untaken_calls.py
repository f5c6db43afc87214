"""Calls that wait until a busy server takes them up: their callers say how long, and no server answers CANCELLED."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.api import server as api
from participants import server as participant
from participants.settings import ParticipantSettings

ARGUMENT = "grpc.server_max_unrequested_time_in_server"
OPTIONS: dict[str, dict[str, int]] = {
    "replica": dict(api._options(4_000_000)),
    "participant": dict(participant._options(ParticipantSettings())),
}
# No command and no setting lets a caller wait for longer.
LONGEST_WAIT_S = 3600


class Busy(grpc.GenericRpcHandler):
    """Does nothing else while it does one call."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        async def one(request: bytes, context: object) -> bytes:
            time.sleep(0.8)  # noqa: ASYNC251
            return b""

        return grpc.unary_unary_rpc_method_handler(one)


async def codes_of_calls_at_once(options: dict[str, int]) -> list[str]:
    """What becomes of five calls that come at the same time to a server with these options."""
    server = grpc.aio.server(options=list(options.items()))
    server.add_generic_rpc_handlers((Busy(),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    codes: list[str] = []

    def call() -> None:
        with grpc.insecure_channel(address) as channel:
            futures = [channel.unary_unary("/a/b").future(b"", timeout=60) for _ in range(5)]
            errors: list[Any] = [future.exception() for future in futures]
            codes.extend("OK" if error is None else error.code().name for error in errors)

    caller = threading.Thread(target=call)
    caller.start()
    while caller.is_alive():
        await asyncio.sleep(0.01)
    await server.stop(None)
    return codes


@pytest.mark.parametrize("who", OPTIONS)
def test_a_call_waits_for_as_long_as_its_caller_does(who: str) -> None:
    assert OPTIONS[who][ARGUMENT] > LONGEST_WAIT_S


async def test_that_is_what_the_argument_says() -> None:
    """With a shorter time, what takes gRPC half a minute by default takes a second."""
    assert "CANCELLED" in await codes_of_calls_at_once({**OPTIONS["replica"], ARGUMENT: 1})
