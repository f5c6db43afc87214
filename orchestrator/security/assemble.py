"""The security of one replica, put together from its settings: its identity, the gate, and how it reaches others."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
from psycopg.conninfo import conninfo_to_dict

from orchestrator.addresses import is_loopback
from orchestrator.config import Settings
from orchestrator.errors import InvariantError
from orchestrator.security.access import AccessList
from orchestrator.security.caller import Limits
from orchestrator.security.dialer import PLAIN, Dialer
from orchestrator.security.files import Reloaded
from orchestrator.security.gate import Gate, SignedTokens
from orchestrator.security.identity import Identity, identity_from
from orchestrator.security.tokens import KeySet


class Doors:
    """What the ports of a replica have in common: one identity, and one gate. Without an identity they are plain."""

    def __init__(self, gate: Gate, identity: Reloaded[Identity] | None = None) -> None:
        self.gate = gate
        self._identity = identity
        self._contexts: dict[ssl.VerifyMode, tuple[int, ssl.SSLContext]] = {}

    @property
    def secure(self) -> bool:
        """Whether they speak TLS."""
        return self._identity is not None

    def credentials(self, *, certificates: bool) -> grpc.ServerCredentials | None:
        """For a gRPC server, which asks for clients' `certificates` or for none; new ones at each connection."""
        identity = self._identity
        if identity is None:
            return None

        told, first = identity.generation, identity.current().server_configuration()

        def news() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            generation = identity.generation
            if told == generation:
                # gRPC replaces what it has by whatever it is given, and dies of that when connections come at the same
                # time: so it is given nothing that it has.
                return None
            told = generation
            return identity.current().server_configuration()

        # None says that nothing has changed, which the stubs do not know.
        return grpc.dynamic_ssl_server_credentials(
            first,
            news,  # type: ignore[arg-type]
            require_client_authentication=certificates,
        )

    def context(self, certificates: ssl.VerifyMode) -> ssl.SSLContext | None:
        """For a server of our own, at each connection; None: it speaks in the clear."""
        if self._identity is None:
            return None
        generation = self._identity.generation
        known = self._contexts.get(certificates)
        if known is None or known[0] != generation:
            known = self._contexts[certificates] = (
                generation,
                self._identity.current().server_context(certificates),
            )
        return known[1]

    def expires_at_s(self) -> float:
        """When the certificate in force ends, in seconds since 1970; 0 without one."""
        ends = None if self._identity is None else self._identity.current().expires_at
        return 0.0 if ends is None else ends.timestamp()


class Security:
    """All of it. Raises BadFile when a file cannot be used."""

    def __init__(self, settings: Settings, refused: Callable[[str], None] = lambda _: None) -> None:
        own = settings.tls_cert_file
        identity = identity_from(settings.tls_ca_file, own, settings.tls_key_file) if own else None
        self.doors = Doors(_gate(settings, refused), identity)
        self.replicas = PLAIN if identity is None else Dialer(identity, server_name=settings.tls_replica_name)
        self.participants = _to_participants(settings, identity)
        self.etcd = to_etcd(settings.etcd_ca_file, settings.etcd_cert_file, settings.etcd_key_file)


def to_etcd(ca: Path | None, cert: Path | None, key: Path | None) -> Dialer:
    """The way to etcd: TLS, when there is an authority. Raises BadFile."""
    return PLAIN if ca is None else Dialer(identity_from(ca, cert, key))


def _to_participants(settings: Settings, identity: Reloaded[Identity] | None) -> Dialer:
    if identity is None or settings.participant_tls is False:
        return PLAIN
    if settings.participant_ca_file is not None:
        identity = identity_from(settings.participant_ca_file, settings.tls_cert_file, settings.tls_key_file)
    return Dialer(identity, plain=[address.strip() for address in settings.participant_plain.split(",")])


def _gate(settings: Settings, refused: Callable[[str], None]) -> Gate:
    access = signed = None
    if settings.access_file is not None:
        access = Reloaded([settings.access_file], lambda contents: AccessList.parse(contents[0]))
    if settings.jwks_file is not None:
        if not settings.jwt_issuer:
            raise InvariantError("the settings let a key set pass without an issuer")
        keys = Reloaded([settings.jwks_file], lambda contents: KeySet.parse(contents[0]))
        signed = SignedTokens(keys, settings.jwt_issuer, settings.jwt_audience)
    limits = Limits(settings.caller_calls_per_s, settings.caller_calls, settings.caller_streams)
    return Gate(access, signed, limits, refused)


def links_in_clear(settings: Settings) -> tuple[str, ...]:
    """What on other machines a replica with a certificate reaches without TLS: an oversight, most likely."""
    if settings.tls_cert_file is None:
        return ()
    found = []
    if settings.etcd_ca_file is None and not all(map(is_loopback, settings.etcd_addresses)):
        found.append("etcd: set BATON_ETCD_CA_FILE")
    postgres = {name: str(value) for name, value in conninfo_to_dict(settings.dsn).items() if value is not None}
    hosts = (postgres.get("host") or os.environ.get("PGHOST") or "/").split(",")
    away = [host for host in hosts if not host.startswith("/") and not is_loopback(f"{host}:0")]
    mode = postgres.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"
    if away and mode not in ("verify-full", "verify-ca"):
        found.append(f"postgres: sslmode is {mode}, set verify-full in BATON_DSN")
    scheme, _, collector = settings.tracing_endpoint.partition("://")
    if scheme == "http" and not is_loopback(collector.rstrip("/")):
        found.append("collector of traces: set https:// in BATON_TRACING_ENDPOINT")
    return tuple(found)


def open_doors() -> Doors:
    """Doors in the clear, through which everybody may pass."""
    return Doors(Gate())
