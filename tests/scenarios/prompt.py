"""What stands behind the `$` of a story: the command `baton`, in this process, and Postgres' own psql."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from typer.testing import CliRunner

from orchestrator.__main__ import app

from .scribe import Psql
from .stage import Stage
from .story import Command

# Whoever sits there.
_PERSON = {"USER": "ann", "LOGNAME": "ann", "TZ": "UTC"}


async def run(command: Command, stage: Stage, sagas: Mapping[str, str]) -> str:
    """What a command prints, and its status. Raises AssertionError when it is not what the story says."""
    env = {**stage.addresses, "BATON_ENDPOINTS": ",".join(stage.house.cluster.api_endpoints), **_PERSON}
    arguments = command.arguments(sagas, env)
    if command.program == "psql":
        done = await asyncio.to_thread(Psql(stage.house.cluster.postgres).run, arguments)
        output, status = done.stdout + done.stderr, done.returncode
    else:
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=env)
        output, status = result.output, result.exit_code
    output += f"(exit status {status})\n" if status else ""
    wanted = "\n".join(command.output)
    assert command.prints(output), (
        f"line {command.line}: $ {command.text}\n--- is to print\n{wanted}\n--- printed\n{output}"
    )
    return output
