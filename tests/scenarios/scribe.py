"""A participant in another language: a scribe who writes letters, whose barrier is what docs/barrier-sql.md says.

All that he knows is on that page: its statements, and the psql script which puts them in order. The door here stands
for the gRPC server of any language: it hands what has arrived to psql, and says what psql has printed.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection

from orchestrator.driving.status_table import BY_NUMBER
from orchestrator.embedded.postgres import Postgres, program
from participants.call import CallIdentity, identity_from_metadata, request_hash
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from tests.contract.sql_participant import PAGE

_DATABASE, _SCHEMA = "shop", "scribe"
_FILES = re.compile(r"^```(?:sql\n-- name: (\w+)|psql\n-- file: ([\w.]+))\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CALL_MAX_S = 60.0
_AT_ONCE = 8
# His tables; and he takes less than the caller's patience for a key that somebody else is at work on.
_OPTIONS = f"-c search_path={_SCHEMA} -c lock_timeout=1s"
_LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class Psql:
    """psql at the server of the participants; the database is its first argument."""

    postgres: Postgres

    def run(
        self, arguments: list[str], folder: Path | None = None, options: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """What psql prints, without the settings of whoever has started the test."""
        password = (self.postgres.data_dir / "password").read_text(encoding="utf-8")
        where = {"PGHOST": str(self.postgres.socket_dir or "127.0.0.1"), "PGPORT": str(self.postgres.port)}
        env = {**where, "PGUSER": "postgres", "PGPASSWORD": password, "PGOPTIONS": options, "PAGER": ""}
        argv = [program("psql")[-1], "-X", *arguments]
        return subprocess.run(
            argv, cwd=folder, env=env, capture_output=True, text=True, timeout=_CALL_MAX_S, check=False
        )


@dataclass(slots=True)
class Scribe(echo_pb2_grpc.EchoServiceServicer):
    """At work at `address`, in `folder`; `late` are the calls about a text that are held up on their way to him."""

    psql: Psql
    folder: Path
    address: str = ""
    late: dict[str, list[tuple[CallIdentity, echo_pb2.EchoRequest]]] = field(default_factory=dict)
    _writing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def Do(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        """The action."""
        return await self._door(request, context)

    async def Undo(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        """The compensation."""
        return await self._door(request, context)

    async def arrive(self, text: str) -> list[tuple[int, str]]:
        """What was held up on its way arrives now; what the scribe answers."""
        return [await self._write(call, request) for call, request in self.late.pop(text)]

    async def _door(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        call = identity_from_metadata(context.invocation_metadata())
        if call is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "letters are written for sagas alone")
            raise AssertionError
        if call.kind == "action" and request.text in self.late:
            self.late[request.text].append((call, request))
            # Until whoever calls gives up.
            await asyncio.Event().wait()
        # A caller that is gone ends no transaction under way, here as elsewhere.
        code, said = await asyncio.shield(self._write(call, request))
        if code:
            await context.abort(BY_NUMBER[code], said)
        return echo_pb2.EchoResponse(text=said)

    async def _write(self, call: CallIdentity, request: echo_pb2.EchoRequest) -> tuple[int, str]:
        values = {
            "saga_id": call.saga_id,
            "step": call.step,
            "kind": call.kind.value,
            "epoch": str(call.epoch),
            "shard": str(call.shard),
            "request_hash": request_hash(request).hex(),
            "text": request.text,
        }
        arguments = [_DATABASE, "-qAt", "-f", "call.psql"]
        for name, value in values.items():
            arguments += ["-v", f"{name}={value}"]
        async with self._writing:
            done = await asyncio.to_thread(self.psql.run, arguments, self.folder, _OPTIONS)
        if done.returncode or not done.stdout:
            busy = _LOCK_NOT_AVAILABLE in done.stderr or "no rows returned" in done.stderr
            status = grpc.StatusCode.ABORTED if busy else grpc.StatusCode.INTERNAL
            return int(status.value[0]), done.stderr.strip()
        code, _, said = done.stdout.splitlines()[-1].partition(" ")
        return int(code), said


@asynccontextmanager
async def scribe_at_work(postgres: Postgres, folder: Path) -> AsyncGenerator[Scribe]:
    """He has the files of the page in a folder, a schema of his own in the shop's database, and a door."""
    await asyncio.to_thread(_write_files, folder)
    psql = Psql(postgres)
    tables = ["-v", "ON_ERROR_STOP=1", "-c", f"CREATE SCHEMA {_SCHEMA}", "-f", "schema.sql", "-f", "letters.sql"]
    made = await asyncio.to_thread(psql.run, [_DATABASE, "-q", *tables], folder, _OPTIONS)
    assert made.returncode == 0, made.stderr
    scribe = Scribe(psql, folder)
    server = grpc.aio.server()
    echo_pb2_grpc.add_EchoServiceServicer_to_server(scribe, server)
    reflection.enable_server_reflection(["shop.v1.EchoService", reflection.SERVICE_NAME], server)
    scribe.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield scribe
    finally:
        await server.stop(None)


def _write_files(folder: Path) -> None:
    folder.mkdir()
    for statement, file, text in _FILES.findall(PAGE.read_text(encoding="utf-8")):
        (folder / (file or f"{statement}.sql")).write_text(text, encoding="utf-8")
