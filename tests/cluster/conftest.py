"""A cluster that the tests of a module share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from .flows import FLOWS
from .house import House, open_house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Two replicas, one etcd member, Postgres and the shop; the module's tests run in the same event loop."""
    up: asyncio.Future[House] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def live() -> None:
        async with open_house(tmp_path_factory.mktemp("house"), len(FLOWS)) as opened:
            up.set_result(opened)
            await over.wait()

    # A fixture is set up and torn down in two tasks; a cluster belongs to one.
    life = asyncio.create_task(live())
    await asyncio.wait([life, up], return_when=asyncio.FIRST_COMPLETED)
    if life.done():
        await life
    yield up.result()
    over.set()
    await life
