"""The commands of docs/operate.md, run as they stand on a cluster that works, with a parked saga in it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from orchestrator.embedded.etcd import etcd_binary
from orchestrator.embedded.postgres import program
from orchestrator.embedded.processes import inherited_environment
from orchestrator.pb.baton.v1 import saga_pb2
from participants.pb.shop.v1 import fault_pb2

from .house import House, inject

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operate.md"
_WITHIN_S = 240.0


def scripts() -> list[str]:
    """The blocks of the page that are for a shell, in their order."""
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def environment(house: House) -> dict[str, str]:
    """What an operator has: the commands of Baton and of Postgres, and the addresses of everything."""
    tools = [Path(sys.executable).parent, Path(program("psql")[-1]).parent, etcd_binary().parent]
    return {
        **inherited_environment("BATON_", "PG"),
        "PATH": os.pathsep.join([*map(str, tools), os.environ["PATH"]]),
        "BATON_ENDPOINTS": ",".join(house.cluster.api_endpoints),
        "BATON_DSN": house.cluster.baton_dsn,
        "BATON_ETCD_ENDPOINTS": ",".join(house.cluster.etcd.endpoints),
        "no_grpc_proxy": "127.0.0.1",
    }


def run(script: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = ["bash", "-c", script]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=_WITHIN_S)


async def park_a_saga(house: House) -> str:
    """A saga whose payment is refused, and whose reservation cannot be released."""
    await house.apply("parks", "reserve pay", compensation=", retry: {retries: 0}")
    away = fault_pb2.Fault(order_id="fail-payment-1", method="Release", error_code="INTERNAL", times=99)
    await inject(house.cluster, [("inventory", away)])
    saga = await house.start("parks", "fail-payment-1")
    assert (await house.end(saga)).saga.state == saga_pb2.SAGA_STATE_FAILED
    return saga


def counts(dsn: str) -> list[tuple[object, ...]]:
    query = """
        SELECT (SELECT count(*) FROM baton.saga), (SELECT count(*) FROM baton.step_log),
            (SELECT count(*) FROM baton.definition), (SELECT count(*) FROM baton.migration)
    """
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


async def test_every_command_of_the_page_works(house: House, tmp_path: Path) -> None:
    parked = await park_a_saga(house)
    before = await house.cluster.wait_leader()
    script = "set -euo pipefail\n" + "\n".join(scripts())
    done = await asyncio.to_thread(run, script, tmp_path, environment(house))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    # What the commands were meant to show, they have shown.
    assert parked in done.stdout
    assert "the schema is up to date" in done.stdout
    assert "has stepped down" in done.stdout
    assert re.search(r"^postgres$", done.stdout, re.MULTILINE), "the doctor's findings"
    assert "TABLE baton saga" in (tmp_path / "backup" / "contents.txt").read_text()
    # Leadership has moved, and the restored database is the one that was backed up.
    assert (await house.cluster.wait_leader()).epoch > before.epoch
    parts = urlsplit(house.cluster.baton_dsn)
    assert counts(parts._replace(path="/baton_restored").geturl()) == counts(house.cluster.baton_dsn)
