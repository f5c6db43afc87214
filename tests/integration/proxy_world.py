"""A server behind a link, for the tests of links."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from orchestrator.drill.proxy import Link

WITHIN_S = 30.0
# So long nothing comes: a bound on what must not happen, not a wait for what must.
QUIET_S = 0.15

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class World:
    """A server behind a link, and what it has received."""

    link: Link
    received: bytearray = field(default_factory=bytearray)
    ends: list[str] = field(default_factory=list)
    served: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> Streams:
        async with asyncio.timeout(WITHIN_S):
            return await asyncio.open_connection(*self.link.address)

    async def has_received(self, wanted: bytes) -> None:
        async with asyncio.timeout(WITHIN_S):
            while bytes(self.received) != wanted:
                await asyncio.sleep(0.002)

    async def has_ended(self, *wanted: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            while self.ends != list(wanted):
                await asyncio.sleep(0.002)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """An echo server behind a link, both in this loop."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        it.served.append(writer)
        try:
            while data := await reader.read(65_536):
                it.received += data
                writer.write(data)
                await writer.drain()
            it.ends.append("eof")
        except ConnectionResetError:
            it.ends.append("reset")
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with asyncio.TaskGroup() as group:
        it = World(Link("test", server.sockets[0].getsockname(), group))
        yield it
        it.link.close()
    for writer in it.served:
        writer.transport.abort()
    server.close()


async def read(reader: asyncio.StreamReader, count: int) -> bytes:
    async with asyncio.timeout(WITHIN_S):
        return await reader.readexactly(count)


async def quiet(reader: asyncio.StreamReader) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            await reader.read(1)


async def alive(streams: Streams, data: bytes = b"hello") -> None:
    streams[1].write(data)
    assert await read(streams[0], len(data)) == data
