"""A replica that ends: what is under way is finished, and what is new is sent to another replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.api.doorway import Doorway


@asynccontextmanager
async def calls_through(doorway: Doorway, answer: Callable[..., Awaitable[bytes]]) -> AsyncIterator[Callable[..., Any]]:
    """A method that answers behind the doorway, as a client calls it."""
    server = grpc.aio.server(interceptors=(doorway,))
    method = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", {"Do": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.unary_unary("/t.S/Do")
    finally:
        await server.stop(None)


async def test_a_closed_doorway_finishes_the_old_and_refuses_the_new() -> None:
    inside, release = asyncio.Event(), asyncio.Event()

    async def slow(request: bytes, context: object) -> bytes:
        inside.set()
        await release.wait()
        return request

    doorway = Doorway()
    async with calls_through(doorway, slow) as call:
        old = asyncio.ensure_future(call(b"old", timeout=10))
        await inside.wait()
        closing = asyncio.create_task(doorway.close(grace_s=10))
        await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"new", timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not closing.done()
        release.set()
        assert await old == b"old"
        await asyncio.wait_for(closing, 10)


async def test_a_call_that_does_not_end_is_not_waited_for_longer_than_the_grace() -> None:
    doorway = Doorway()
    doorway._inside = 1
    doorway._empty.clear()
    began_s = time.monotonic()
    await doorway.close(grace_s=0.05)
    assert 0.04 < time.monotonic() - began_s < 5


async def test_a_call_is_under_way_until_its_answer_has_been_sent_also_when_it_fails() -> None:
    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        if request == b"abort":
            await context.abort(grpc.StatusCode.INTERNAL, "no")
        if request == b"fail":
            raise ZeroDivisionError
        return request

    doorway = Doorway()
    async with calls_through(doorway, answer) as call:
        answers = await asyncio.gather(
            *(call(text, timeout=10) for text in (b"fine", b"abort", b"fail") * 20), return_exceptions=True
        )
        assert sum(answer == b"fine" for answer in answers) == 20
        # Otherwise it would wait for ever: all have left.
        await asyncio.wait_for(doorway.close(grace_s=60), 10)
