"""TLS of a participant: certificates that may be replaced while it runs, and callers that are known by theirs.

With TLS every caller must show a certificate of the authority, and its name must be one of those that may call: a
participant does what it is told, so nobody but the orchestrator's replicas tells it anything.
"""

from __future__ import annotations

import inspect
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog

from participants.settings import ParticipantSettings

_LOOK_INTERVAL_S = 1.0
# Probes have no identity, and learn no more than whether the participant serves.
_OPEN = "/grpc.health.v1.Health/"

log = structlog.get_logger()


class BadCertificate(Exception):
    """A file of PARTICIPANT_TLS_* cannot be used; the message names it."""


class Certificates:
    """A participant's certificate, its key and the authority of its callers, read again when the files change.

    Raises BadCertificate. Later a broken file is told in the log once, and what was there before stays in force.
    """

    def __init__(self, cert_file: Path, key_file: Path, ca_file: Path) -> None:
        self._files = (key_file, cert_file, ca_file)
        self._tried = self._stamp()
        self.generation = 1
        self._configuration, self._client = self._read()
        self._look_at_s = time.monotonic() + _LOOK_INTERVAL_S

    def credentials(self) -> grpc.ServerCredentials:
        """For a gRPC server; each new connection gets the certificates of its moment."""
        told = self.generation

        def news() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            self.current()
            generation = self.generation
            if told == generation:
                # gRPC replaces what it has by whatever it is given, and dies of that when connections come at the same
                # time: so it is given nothing that it has.
                return None
            told = generation
            return self._configuration

        # None says that nothing has changed, which the stubs do not know.
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            news,  # type: ignore[arg-type]
            require_client_authentication=True,
        )

    def current(self) -> grpc.ServerCertificateConfiguration:
        """What is in force now."""
        now_s = time.monotonic()
        if now_s < self._look_at_s:
            return self._configuration
        self._look_at_s = now_s + _LOOK_INTERVAL_S
        stamp = self._stamp()
        if stamp != self._tried:
            self._tried = stamp
            try:
                self._configuration, self._client = self._read()
                self.generation += 1
                log.info("certificates read again", files=[str(file) for file in self._files])
            except BadCertificate as error:
                log.error("certificates refused", error=str(error), reaction="those before stay in force")
        return self._configuration

    def for_calls(self) -> grpc.ChannelCredentials:
        """For a client: this participant's own certificate, and the same authority for the servers that it calls."""
        self.current()
        return self._client

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for file in self._files:
            try:
                status = os.stat(file)
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)

    def _read(self) -> tuple[grpc.ServerCertificateConfiguration, grpc.ChannelCredentials]:
        try:
            key, cert, ca = (file.read_bytes() for file in self._files)
        except OSError as error:
            raise BadCertificate(f"{error.filename}: {error.strerror}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_verify_locations(cadata=ca.decode())
            # Python's ssl takes a certificate and its key from a file alone, so these bytes, which are those that are
            # used below, become one in memory.
            descriptor = os.memfd_create("participant-certificate", os.MFD_CLOEXEC)
            with open(descriptor, "wb") as pair:
                pair.write(key + b"\n" + cert)
                pair.flush()
                context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
        except (OSError, ValueError) as error:
            raise BadCertificate(f"{', '.join(map(str, self._files))}: {error}") from None
        return (
            grpc.ssl_server_certificate_configuration([(key, cert)], ca),
            grpc.ssl_channel_credentials(ca, key, cert),
        )


class Doorkeeper(grpc.aio.ServerInterceptor):
    """Lets those in whose certificate bears one of the names; in a name, `*` stands for any text."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._guarded: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The guarded handler of the method that is called."""
        method = handler_call_details.method
        if (guarded := self._guarded.get(method)) is not None:
            return guarded
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(_OPEN):
            return handler
        # Only methods that exist get here, so this stays as small as the participant is.
        self._guarded[method] = guarded = self._guard(handler)
        return guarded

    def _guard(self, handler: Any) -> Any:
        inside = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        async def answer(request: Any, context: Any) -> Any:
            await self._ask(context)
            return await inside(request, context)

        async def answers(request: Any, context: Any) -> Any:
            await self._ask(context)
            async for each in inside(request, context):
                yield each

        kinds = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        make: Any = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
        behaviour = answers if inspect.isasyncgenfunction(inside) else answer
        return make(behaviour, handler.request_deserializer, handler.response_serializer)

    async def _ask(self, context: Any) -> None:
        shown = _names_in(context.auth_context())
        if not any(fnmatchcase(name, pattern) for name in shown for pattern in self._names):
            who = ", ".join(shown) or "no name"
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, f"a certificate for {who} may not call; PARTICIPANT_TLS_CALLERS may"
            )


def _names_in(context: Mapping[str, Any]) -> tuple[str, ...]:
    """The alternative names of a caller's certificate, else its common name."""
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        if names := tuple(value.decode(errors="replace") for value in context.get(key) or ()):
            return names
    return ()


def certificates_of(settings: ParticipantSettings) -> Certificates | None:
    """The certificates that the settings name; None: the participant speaks in the clear. Raises BadCertificate."""
    cert, key, ca = settings.tls_cert_file, settings.tls_key_file, settings.tls_ca_file
    return Certificates(cert, key, ca) if cert and key and ca else None


def _no_password() -> str:
    raise ValueError("the key is encrypted; there is no password for it")
