"""How a client shows who it is: a certificate, or a bearer token; and which authority's servers it believes.

A token is a secret: it is sent over TLS, or to this very machine, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from orchestrator.addresses import is_loopback
from orchestrator.errors import BatonError
from orchestrator.security.dialer import PLAIN, Dialer, Options
from orchestrator.security.files import Reloaded
from orchestrator.security.identity import Identity, identity_from


class WouldTell(BatonError):
    """A token would be sent in the clear to another machine: name the authority of its certificates (BATON_CA_FILE)."""


@dataclass(frozen=True, slots=True)
class ClientAccess:
    """Makes channels to the API. `token` gives the token of the moment; files are read again when they change."""

    dialer: Dialer = PLAIN
    token: Callable[[], str] | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def of(
        cls,
        *,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        token: str = "",
        token_file: Path | None = None,
        tls: bool = False,
    ) -> ClientAccess:
        """TLS as soon as there is an authority or a certificate; `tls` alone believes the system's authorities.

        Raises BadFile.
        """
        dialer = PLAIN
        if ca_file or cert_file or key_file:
            dialer = Dialer(identity_from(ca_file, cert_file, key_file))
        elif tls:
            dialer = Dialer(Reloaded((), lambda _: Identity()))
        if token_file is not None:
            read = Reloaded([token_file], lambda contents: contents[0].decode().strip()).current
            return cls(dialer, read, cert_file, key_file)
        return cls(dialer, (lambda: token) if token else None, cert_file, key_file)

    def to_participants(self, ca_file: Path | None) -> Dialer:
        """The way to participants: by the same certificate, to servers of the same authority or of their own.

        Raises BadFile.
        """
        return self.dialer if ca_file is None else Dialer(identity_from(ca_file, self.cert_file, self.key_file))

    def channel(self, address: str, options: Options) -> grpc.aio.Channel:
        """A channel to a replica's API. Raises WouldTell."""
        if self.token is None:
            return self.dialer.channel(address, options)
        if not self.dialer.secure and not is_loopback(address):
            raise WouldTell(f"the token would go to {address} in the clear: set BATON_CA_FILE, or BATON_TLS=1")
        return self.dialer.channel(address, options, _bearers(self.token))


OPEN_ACCESS = ClientAccess()
_CHOSEN: ContextVar[ClientAccess] = ContextVar("baton_client_access", default=OPEN_ACCESS)


def choose(access: ClientAccess) -> None:
    """What the command line and the environment say, for every client of this process."""
    _CHOSEN.set(access)


def chosen() -> ClientAccess:
    """That."""
    return _CHOSEN.get()


class _Bearer:
    """Adds the token to a call. gRPC wants an interceptor of its own for each kind of call."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    async def _with_token(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", f"Bearer {self._token()}")
        return await continuation(details._replace(metadata=metadata), request)


class _OfUnary(_Bearer, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Called by gRPC."""
        return await self._with_token(continuation, client_call_details, request)


class _OfStream(_Bearer, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Called by gRPC."""
        return await self._with_token(continuation, client_call_details, request)


class _OfUpload(_Bearer, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Called by gRPC."""
        return await self._with_token(continuation, client_call_details, request_iterator)


class _OfConversation(_Bearer, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Called by gRPC."""
        return await self._with_token(continuation, client_call_details, request_iterator)


def _bearers(token: Callable[[], str]) -> Sequence[Any]:
    return (_OfUnary(token), _OfStream(token), _OfUpload(token), _OfConversation(token))
