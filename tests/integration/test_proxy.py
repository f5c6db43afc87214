"""The links of drills, on real sockets: bytes, resets, cuts, delays and limits, both ways."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import pytest

from orchestrator.drill.proxy import Link, Toward
from tests.integration.proxy_world import QUIET_S, WITHIN_S, alive, quiet, read, world


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
        before = 0
        while before != written or not written:  # until the kernels' buffers are full
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
