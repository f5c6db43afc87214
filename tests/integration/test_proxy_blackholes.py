"""The links of drills, on real sockets: what is swallowed, unplugged, diverted or refused, and nothing stays."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from orchestrator.drill.proxy import Link, Proxy, Toward, Trap
from tests.integration.proxy_world import WITHIN_S, alive, quiet, read, world


async def test_a_blackhole_accepts_and_passes_nothing_until_healed() -> None:
    async with world() as it:
        old = await it.connect()
        await alive(old)
        it.link.blackhole()
        old[1].write(b"lost?")
        new = await it.connect()
        new[1].write(b"new")
        async with asyncio.timeout(WITHIN_S):
            while it.link.tally.held_bytes < 8:
                await asyncio.sleep(0.002)
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
