"""Certificates, callers and keys that change under a server that runs: the next connection, or call, knows."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.api.guard import Guard
from orchestrator.cli.access import ClientAccess
from orchestrator.embedded.authority import Authority
from orchestrator.security import files
from orchestrator.security.access import AccessList
from orchestrator.security.assemble import Doors
from orchestrator.security.audit import nowhere
from orchestrator.security.files import Reloaded
from orchestrator.security.gate import Gate
from orchestrator.security.identity import identity_from
from participants import tls as participants_tls
from participants.tls import Certificates, Doorkeeper

SOON_S = 60.0
METHOD = "/baton.v1.ClusterService/GetCluster"


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at whenever they are asked for, not once a second."""
    monkeypatch.setattr(files, "LOOK_INTERVAL_S", 0.0)
    monkeypatch.setattr(participants_tls, "_LOOK_INTERVAL_S", 0.0)


class Folder:
    """The files of a server, and of a client, each by an authority that the test chooses."""

    def __init__(self, folder: Path) -> None:
        self.old, self.new = Authority(folder / "old"), Authority(folder / "new")
        self.ca, self.cert, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        self.access = folder / "access.yaml"
        self.list("a")
        self.serve_by(self.old)

    def list(self, *names: str) -> None:
        entries = (f"{{name: {name}, certificate: {name}, roles: [reader]}}" for name in names)
        self.access.write_text(f"callers: [{', '.join(entries)}]")

    def serve_by(self, authority: Authority) -> None:
        issued = authority.issue("server")
        for source, target in (
            (authority.ca_file, self.ca),
            (issued.key_file, self.key),
            (issued.cert_file, self.cert),
        ):
            shutil.copy(source, target)

    def client(self, authority: Authority) -> ClientAccess:
        issued = authority.issue("a")
        return ClientAccess.of(ca_file=authority.ca_file, cert_file=issued.cert_file, key_file=issued.key_file)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@asynccontextmanager
async def served(
    interceptor: grpc.aio.ServerInterceptor, credentials: grpc.ServerCredentials | None
) -> AsyncIterator[str]:
    """The address of a server with one method."""

    async def answer(request: bytes, context: Any) -> bytes:
        return b"here"

    server = grpc.aio.server(interceptors=[interceptor])
    service, _, name = METHOD.removeprefix("/").rpartition("/")
    handler: Any = grpc.unary_unary_rpc_method_handler(answer)  # type: ignore[arg-type]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
    assert credentials is not None
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def replica_doors(folder: Folder) -> tuple[grpc.aio.ServerInterceptor, grpc.ServerCredentials | None]:
    gate = Gate(Reloaded([folder.access], lambda contents: AccessList.parse(contents[0])))
    doors = Doors(gate, identity_from(folder.ca, folder.cert, folder.key))
    return Guard(gate, nowhere), doors.credentials(certificates=True)


def participant_doors(folder: Folder) -> tuple[grpc.aio.ServerInterceptor, grpc.ServerCredentials | None]:
    return Doorkeeper(("a",)), Certificates(folder.cert, folder.key, folder.ca).credentials()


async def ask(access: ClientAccess, address: str) -> grpc.StatusCode:
    """How a call over a fresh connection ends."""
    async with access.channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            await channel.unary_unary(METHOD)(b"", timeout=SOON_S)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("doors", [replica_doors, participant_doors])
async def test_a_server_changes_its_authority_without_a_restart(
    folder: Folder, doors: Callable[[Folder], tuple[grpc.aio.ServerInterceptor, grpc.ServerCredentials | None]]
) -> None:
    async with served(*doors(folder)) as address:
        assert await ask(folder.client(folder.old), address) is grpc.StatusCode.OK
        assert await ask(folder.client(folder.new), address) is grpc.StatusCode.UNAVAILABLE
        folder.serve_by(folder.new)
        assert await ask(folder.client(folder.new), address) is grpc.StatusCode.OK
        assert await ask(folder.client(folder.old), address) is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_that_is_struck_off_the_list_is_refused_on_its_open_connection(folder: Folder) -> None:
    async with (
        served(*replica_doors(folder)) as address,
        folder.client(folder.old).channel(address, ()) as channel,
    ):
        call: Any = channel.unary_unary(METHOD)
        assert await call(b"", timeout=SOON_S) == b"here"
        folder.list("b")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", timeout=SOON_S)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        folder.list("a")
        assert await call(b"", timeout=SOON_S) == b"here"


async def test_a_client_takes_a_new_token_from_its_file(folder: Folder, tmp_path: Path) -> None:
    heard: list[Any] = []

    class Ear(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            heard.extend(value for key, value in handler_call_details.invocation_metadata if key == "authorization")
            return await continuation(handler_call_details)

    token_file = tmp_path / "token"
    token_file.write_text("one\n")
    _, credentials = replica_doors(folder)
    issued = folder.old.issue("a")
    access = ClientAccess.of(
        ca_file=folder.ca, cert_file=issued.cert_file, key_file=issued.key_file, token_file=token_file
    )
    async with served(Ear(), credentials) as address, access.channel(address, ()) as channel:
        call: Any = channel.unary_unary(METHOD)
        async with asyncio.timeout(SOON_S):
            await call(b"")
            token_file.write_text("another\n")
            await call(b"")
    assert heard == ["Bearer one", "Bearer another"]
