"""A replica's API without a leader, and the client commands pointed at it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, inherited_environment
from orchestrator.sagalog.migrate import migrate
from tests.integration.api_world import INPUT

START = ("saga", "start", "order", "--input", json.dumps(INPUT))


class Served:
    """A replica's API without a leader, and the command pointed at it."""

    def __init__(self, dsn: str, port: int) -> None:
        self.dsn = dsn
        self.endpoint = f"127.0.0.1:{port}"

    def baton(self, *args: str, input_: str | None = None) -> Result:
        """Run a command."""
        return CliRunner().invoke(app, [*args, "--endpoint", self.endpoint], input=input_)

    def json(self, *args: str) -> Any:
        """What a command that succeeds prints with --json."""
        result = self.baton(*args, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def execute(self, statement: str, *parameters: Any) -> None:
        """Change the log by hand."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(statement.encode(), parameters)


@pytest.fixture(scope="module")
def served(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    dsn = postgres.create_database("test_cli")
    migrate(dsn)
    (port,) = ports = free_ports(1)
    log = tmp_path_factory.mktemp("cli") / "replica.log"
    argv = [sys.executable, "-m", "tests.integration.api_replica", dsn, str(port)]
    process = Process("api", argv, inherited_environment("BATON_"), log)
    process.start()
    world = Served(dsn, port)
    process.wait_until(lambda: world.baton("cluster", "status").exit_code == 0, "does not answer", 120)
    process.wait_until(lambda: bool(world.json("definition", "list")), "has no definition", 120)
    yield world
    process.stop()
    release_ports(ports)
    postgres.drop_database("test_cli")
