"""Liveness: the heartbeat of the process itself, whatever etcd and Postgres do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from orchestrator.config import Settings
from orchestrator.leadership import assemble
from orchestrator.leadership.assemble import Leadership
from orchestrator.leadership.victory import Victory

# Nobody listens there.
_NOWHERE = "127.0.0.1:1"


async def _lead(_: Victory) -> None:
    await asyncio.get_running_loop().create_future()


async def _never() -> bool:
    return False


@pytest.fixture
async def leadership() -> AsyncIterator[Leadership]:
    """Leadership that runs, with an etcd that is not there."""
    settings = Settings(etcd_endpoints=_NOWHERE, peer_listen="127.0.0.1:0", replica="a")
    leadership = Leadership(settings, _lead, _never)
    run = asyncio.ensure_future(leadership.run())
    while leadership.etcd_trouble is None:
        await asyncio.sleep(0.005)
    yield leadership
    await leadership.close()
    await run


async def test_a_replica_without_etcd_lives(leadership: Leadership) -> None:
    assert leadership.etcd_trouble is not None
    assert leadership.complaint() is None


async def test_a_heartbeat_that_is_silent_is_told(leadership: Leadership, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "SILENCE_MAX_S", 0.0)
    assert "silent" in (leadership.complaint() or "")


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        ("_beacon", "the thread that beats to the standbys has ended"),
        ("_renewal", "the thread that renews the lease has ended"),
    ],
)
async def test_a_thread_that_has_ended_by_itself_is_told(leadership: Leadership, part: str, complaint: str) -> None:
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    running = getattr(leadership, part)
    thread, running._thread = running._thread, ended
    try:
        assert leadership.complaint() == complaint
    finally:
        running._thread = thread
    assert leadership.complaint() is None


async def test_a_replica_that_has_closed_is_no_defect() -> None:
    settings = Settings(etcd_endpoints=_NOWHERE, peer_listen="127.0.0.1:0", replica="a")
    leadership = Leadership(settings, _lead, _never)
    run = asyncio.ensure_future(leadership.run())
    await asyncio.sleep(0)
    await leadership.close()
    await run
    assert leadership.complaint() is None
