"""The saga log over a link that hangs: nobody answers, and nobody says that he will not."""

from __future__ import annotations

import time

import pytest

from orchestrator.drill.proxy import Link, Proxy
from orchestrator.embedded.routes import routed_dsn
from orchestrator.errors import Resign
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.port import Claim
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.telemetry import Metrics

ABSENCE_MAX_S = 5.5
TIMEOUT_S = 5.0


async def test_a_leader_whose_postgres_hangs_resigns_when_its_patience_ends_and_not_an_attempt_later(
    database: str,
) -> None:
    migrate(database)
    links: list[Link] = []

    def through_a_link(address: str) -> str:
        host, _, port = address.rpartition(":")
        links.append(proxy.link("postgres", (host, int(port))))
        return f"127.0.0.1:{links[-1].address[1]}"

    with Proxy() as proxy:
        settings = LogSettings(routed_dsn(database, through_a_link), "r1", 0, TIMEOUT_S, 0.2, ABSENCE_MAX_S, 4000)
        log = PostgresSagaLog(settings, Metrics("test", "r1"))
        term = await log.raise_epoch(Claim(0, "r1", "c1", 1, "vacant"))
        assert term is not None
        await proxy.ask(links[0].blackhole)
        began_s = time.monotonic()
        with pytest.raises(Resign):
            await term.prove()
        # One statement and one attempt to connect, to their ends, would be 10 s.
        assert ABSENCE_MAX_S <= time.monotonic() - began_s < 2 * TIMEOUT_S
        await term.close()
        await log.close()
