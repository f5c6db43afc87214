"""How this process reaches a server: in the clear, or over TLS with certificates that may change while it runs.

gRPC's credentials never change, so a channel that is to use new certificates is a new channel: whoever keeps one
compares its `generation` with the dialer's, and makes another when they differ.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Sequence
from typing import Any

import grpc
import grpc.aio

from orchestrator.security.files import Reloaded
from orchestrator.security.identity import Identity

Options = Sequence[tuple[str, Any]]


class Dialer:
    """Makes channels. Without an identity, and to `plain` addresses and Unix sockets, they are in the clear.

    A server's certificate must be for the host that is dialed, or for `server_name` where that is given.
    """

    def __init__(
        self, identity: Reloaded[Identity] | None = None, plain: Collection[str] = (), server_name: str = ""
    ) -> None:
        self._identity = identity
        self.server_name = server_name
        self._options = (("grpc.ssl_target_name_override", server_name),) if server_name else ()
        self._plain = frozenset(plain)
        self._credentials: tuple[int, grpc.ChannelCredentials] | None = None
        self._context: tuple[int, ssl.SSLContext] | None = None

    @property
    def generation(self) -> int:
        """Which certificates a new channel uses; 0 without any."""
        return 0 if self._identity is None else self._identity.generation

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._identity is not None

    def channel(self, address: str, options: Options = (), interceptors: Sequence[Any] = ()) -> grpc.aio.Channel:
        """A channel to host:port, for the running event loop."""
        credentials = self._credentials_for(address)
        if credentials is None:
            return grpc.aio.insecure_channel(address, options, interceptors=interceptors or None)
        return grpc.aio.secure_channel(
            address, credentials, (*options, *self._options), interceptors=interceptors or None
        )

    def blocking_channel(self, address: str, options: Options = ()) -> grpc.Channel:
        """A channel to host:port, for threads."""
        credentials = self._credentials_for(address)
        if credentials is None:
            return grpc.insecure_channel(address, options)
        return grpc.secure_channel(address, credentials, (*options, *self._options))

    def context(self) -> ssl.SSLContext | None:
        """What a plain connection is wrapped in; None: nothing."""
        if self._identity is None:
            return None
        generation = self._identity.generation
        if self._context is None or self._context[0] != generation:
            self._context = (generation, self._identity.current().client_context())
        return self._context[1]

    def _credentials_for(self, address: str) -> grpc.ChannelCredentials | None:
        if self._identity is None or address in self._plain or address.startswith("unix:"):
            return None
        generation = self._identity.generation
        if self._credentials is None or self._credentials[0] != generation:
            self._credentials = (generation, self._identity.current().channel_credentials())
        return self._credentials[1]


PLAIN = Dialer()
