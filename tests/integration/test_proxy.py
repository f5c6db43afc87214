"""The links of drills, on real sockets: every fault, both ways, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.drill.proxy import Link, Proxy, Toward, Trap

WITHIN_S = 10.0
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


async def test_fair_weather_passes_bytes_both_ways() -> None:
    async with world() as it:
        await alive(await it.connect())
        assert it.link.tally.bytes_toward == {Toward.SERVER: 5, Toward.CLIENT: 5}


async def test_half_close_is_passed_on_and_the_answer_still_comes() -> None:
    async with world() as it:
        reader, writer = await it.connect()
        writer.write(b"question")
        writer.write_eof()
        async with asyncio.timeout(WITHIN_S):
            assert await reader.read() == b"question"
        await it.has_ended("eof")


async def test_large_transfers_arrive_intact_both_ways_at_once() -> None:
    data = os.urandom(20_000_000)
    async with world() as it:
        reader, writer = await it.connect()
        writer.write(data)
        assert await read(reader, len(data)) == data
        assert bytes(it.received) == data


async def test_a_client_that_does_not_read_holds_the_server_up_and_no_memory() -> None:
    written = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            written += 65_536

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with asyncio.TaskGroup() as group:
        link = Link("test", server.sockets[0].getsockname(), group)
        reader, writer = await asyncio.open_connection(*link.address, limit=1024)
        before = -1
        while before != written:  # until the kernels' buffers are full
            before = written
            await asyncio.sleep(QUIET_S)
        assert 0 < written < 40_000_000
        assert len(await read(reader, 30_000_000)) == 30_000_000
        writer.transport.abort()
        link.close()
    server.close()


async def test_a_reset_is_seen_as_a_reset_on_either_side() -> None:
    async with world() as it:
        reader, _ = streams = await it.connect()
        await alive(streams)
        it.link.reset()
        with pytest.raises(ConnectionResetError):
            await read(reader, 1)
        await it.has_ended("reset")
        assert it.link.tally.resets == 2
        await alive(await it.connect())


@pytest.mark.parametrize("toward", list(Toward))
async def test_a_reset_of_one_side_leaves_the_other_half_open(toward: Toward) -> None:
    async with world() as it:
        reader, _ = streams = await it.connect()
        await alive(streams)
        it.link.reset(toward)
        if toward is Toward.SERVER:
            await it.has_ended("reset")
            await quiet(reader)
        else:
            with pytest.raises(ConnectionResetError):
                await read(reader, 1)
            assert it.ends == []
        it.link.heal()
        await it.has_ended("reset")


async def test_a_reset_by_an_end_is_passed_on() -> None:
    async with world() as it:
        _, writer = streams = await it.connect()
        await alive(streams)
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        writer.transport.abort()
        await it.has_ended("reset")


async def test_a_cut_resets_and_refuses_until_healed() -> None:
    async with world() as it:
        reader, _ = streams = await it.connect()
        await alive(streams)
        it.link.cut()
        with pytest.raises(ConnectionResetError):
            await read(reader, 1)
        with pytest.raises(ConnectionRefusedError):
            await it.connect()
        it.link.heal()
        await alive(await it.connect())


async def test_a_delay_takes_its_time_and_keeps_the_order() -> None:
    async with world() as it:
        reader, writer = streams = await it.connect()
        await alive(streams)
        it.link.delay(0.05, jitter_s=0.05)
        began_s = time.monotonic()
        data = b"".join(number.to_bytes(4) for number in range(1000))
        for at in range(0, len(data), 40):
            writer.write(data[at : at + 40])
            await asyncio.sleep(0)
        assert await read(reader, len(data)) == data
        assert time.monotonic() - began_s >= 0.1
        assert it.link.tally.delayed_bytes >= 2 * len(data)


@pytest.mark.parametrize("toward", list(Toward))
async def test_a_delay_one_way_leaves_the_other_alone(toward: Toward) -> None:
    async with world() as it:
        _, writer = streams = await it.connect()
        await alive(streams)
        it.link.delay(5.0, toward=[toward])
        writer.write(b"now")
        if toward is Toward.CLIENT:
            await it.has_received(b"hellonow")
        else:
            await quiet(streams[0])
            assert bytes(it.received) == b"hello"
        it.link.heal()
        assert await read(streams[0], 3) == b"now"


async def test_a_limit_bounds_the_bytes_of_a_second() -> None:
    async with world() as it:
        reader, writer = await it.connect()
        it.link.limit(1_000_000, toward=[Toward.SERVER])
        began_s = time.monotonic()
        writer.write(b"x" * 300_000)
        await read(reader, 300_000)
        assert 0.25 <= time.monotonic() - began_s < WITHIN_S


async def test_a_blackhole_accepts_and_passes_nothing_until_healed() -> None:
    async with world() as it:
        old = await it.connect()
        await alive(old)
        it.link.blackhole()
        old[1].write(b"lost?")
        new = await it.connect()
        new[1].write(b"new")
        await quiet(old[0])
        await quiet(new[0])
        assert bytes(it.received) == b"hello"
        assert it.link.tally.held_bytes == 8
        assert len(it.served) == 1
        it.link.heal()
        assert await read(old[0], 5) == b"lost?"
        assert await read(new[0], 3) == b"new"


async def test_a_blackhole_towards_the_client_lets_requests_pass() -> None:
    async with world() as it:
        streams = await it.connect()
        it.link.blackhole([Toward.CLIENT])
        streams[1].write(b"request")
        await it.has_received(b"request")
        await quiet(streams[0])


async def test_a_blackhole_towards_the_server_lets_the_server_speak() -> None:
    async with world() as it:
        streams = await it.connect()
        await alive(streams)
        it.link.blackhole([Toward.SERVER])
        streams[1].write(b"request")
        it.served[0].write(b"news")
        assert await read(streams[0], 4) == b"news"
        assert bytes(it.received) == b"hello"


async def test_a_blackhole_hides_that_an_end_has_gone() -> None:
    async with world() as it:
        streams = await it.connect()
        await alive(streams)
        it.link.blackhole()
        it.served[0].transport.abort()
        await quiet(streams[0])
        it.link.heal()
        async with asyncio.timeout(WITHIN_S):
            assert await streams[0].read(1) == b""


async def test_a_blackhole_reads_no_more_than_it_may_keep() -> None:
    async with world() as it:
        _, writer = streams = await it.connect()
        await alive(streams)
        it.link.blackhole()
        writer.write(b"x" * 30_000_000)
        await quiet(streams[0])
        assert it.link.tally.held_bytes < 1_000_000
        it.link.heal()
        assert len(await read(streams[0], 30_000_000)) == 30_000_000


async def test_an_unplugged_link_neither_accepts_nor_refuses() -> None:
    async with world() as it:
        streams = await it.connect()
        await alive(streams)
        it.link.unplug()
        streams[1].write(b"later")
        await quiet(streams[0])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await asyncio.open_connection(*it.link.address)
        assert bytes(it.received) == b"hello"
        it.link.heal()
        assert await read(streams[0], 5) == b"later"
        await alive(await it.connect())


async def test_a_swallowed_answer_was_given_and_never_came() -> None:
    async with world() as it:
        bystander, victim = await it.connect(), await it.connect()
        await alive(bystander, b"one")
        it.link.swallow_answers(Trap(b"COMMIT", b"MIT", 1))
        victim[1].write(b"BEGIN CO")
        assert await read(victim[0], 8) == b"BEGIN CO"
        victim[1].write(b"MMIT")  # the request is found across two reads
        with pytest.raises(ConnectionResetError):
            await read(victim[0], 1)
        assert it.received.endswith(b"BEGIN COMMIT")
        assert (it.link.tally.struck, it.link.tally.swallowed_bytes) == (1, 4)
        await alive(bystander, b"COMMIT")  # once means once


async def test_a_diverted_link_leads_elsewhere_until_healed() -> None:
    async with world() as it:
        reader, _ = streams = await it.connect()
        await alive(streams)
        elsewhere = await asyncio.start_server(lambda _, writer: writer.write(b"elsewhere"), "127.0.0.1", 0)
        it.link.divert(elsewhere.sockets[0].getsockname())
        with pytest.raises(ConnectionResetError):
            await read(reader, 1)
        diverted, _ = await it.connect()
        assert await read(diverted, 9) == b"elsewhere"
        it.link.heal()
        await alive(await it.connect())
        elsewhere.close()


async def test_a_link_refuses_while_its_target_refuses() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        target = reserved.getsockname()
    async with asyncio.TaskGroup() as group:
        link = Link("test", target, group)
        reader, _ = await asyncio.open_connection(*link.address)
        with pytest.raises(ConnectionResetError):
            await read(reader, 1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*link.address)
        server = await asyncio.start_server(lambda _, writer: writer.close(), *target)
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    reader, _ = await asyncio.open_connection(*link.address)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.005)
            assert await reader.read() == b""
        link.close()
    server.close()


async def test_when_a_server_is_gone_its_clients_find_a_refusal_as_soon_as_the_connection_ends() -> None:
    async def greet_and_hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"?")
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(greet_and_hold, "127.0.0.1", 0)
    async with asyncio.TaskGroup() as group:
        link = Link("test", server.sockets[0].getsockname(), group)
        reader, writer = await asyncio.open_connection(*link.address)
        assert await read(reader, 1) == b"?"
        server.close()  # the port first, the connection later
        writer.write(b"!")
        async with asyncio.timeout(WITHIN_S):
            assert await reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*link.address)
        link.close()


async def test_a_thousand_connections_leave_nothing_behind() -> None:
    async def visit(number: int) -> None:
        reader, writer = await it.connect()
        await alive((reader, writer))
        if number % 3 == 0:
            writer.transport.abort()
        else:
            writer.close()

    async with world() as it:
        await visit(0)
        tasks, files = len(asyncio.all_tasks()), _files()
        for start in range(0, 1000, 50):
            await asyncio.gather(*(visit(number) for number in range(start, start + 50)))
        async with asyncio.timeout(WITHIN_S):
            while it.link.open_connections or len(asyncio.all_tasks()) > tasks or _files() > files:
                await asyncio.sleep(0.01)
        assert it.link.tally.accepted == 1001


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_proxy_runs_in_a_thread_that_a_busy_caller_does_not_hold_up() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with Proxy() as proxy:
        link = proxy.link("test", listener.getsockname())
        client = socket.create_connection(link.address)
        server, _ = listener.accept()
        client.sendall(b"ping")
        server.settimeout(WITHIN_S)
        assert server.recv(4) == b"ping"  # this loop was blocked all the time
        await proxy.ask(link.cut)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        client.close()
        server.close()
    listener.close()
    assert "drill-proxy" not in {thread.name for thread in threading.enumerate()}
