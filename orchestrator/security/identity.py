"""A certificate with its key, and the authority whose certificates are trusted: what TLS is made of, for both ends."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from orchestrator.security.files import BadFile, Reloaded


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM files' contents. A client may have no certificate; without an authority, it trusts those of the system."""

    ca_pem: bytes | None = None
    cert_pem: bytes | None = None
    key_pem: bytes | None = field(default=None, repr=False)

    @property
    def expires_at(self) -> datetime | None:
        """When the certificate, or an authority that is needed, ends."""
        dates = [certificate.not_valid_after_utc for certificate in _certificates(self.cert_pem, self.ca_pem)]
        return min(dates, default=None)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a gRPC client."""
        return grpc.ssl_channel_credentials(self.ca_pem, self.key_pem, self.cert_pem)

    def server_configuration(self) -> grpc.ServerCertificateConfiguration:
        """For a gRPC server."""
        pair = (self._needed(self.key_pem), self._needed(self.cert_pem))
        return grpc.ssl_server_certificate_configuration([pair], self.ca_pem)

    def server_context(self, certificates: ssl.VerifyMode) -> ssl.SSLContext:
        """For a server that speaks TLS itself, and asks clients for certificates like this."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Nobody resumes: every handshake shows a certificate, and nothing is written that nobody reads.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        if self.ca_pem is not None:
            context.load_verify_locations(cadata=self.ca_pem.decode())
            context.verify_mode = certificates
        self._load_into(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """For a client that speaks TLS itself; it checks the server's certificate, and that it bears its name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_pem is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=self.ca_pem.decode())
        if self.cert_pem is not None:
            self._load_into(context)
        return context

    def _load_into(self, context: ssl.SSLContext) -> None:
        # Python's ssl loads a certificate by the name of a file alone. What was read and checked is what is loaded, not
        # what lies there by now: hence a file in memory.
        descriptor = os.memfd_create("baton-identity", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(self._needed(self.key_pem) + b"\n" + self._needed(self.cert_pem))
            context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
        finally:
            os.close(descriptor)

    @staticmethod
    def _needed(pem: bytes | None) -> bytes:
        if pem is None:
            raise BadFile("a server needs a certificate and its key")
        return pem


def identity_from(ca: Path | None, cert: Path | None, key: Path | None) -> Reloaded[Identity]:
    """The identity in these files, read again when they change. Raises BadFile."""
    named = [(part, path) for part, path in (("ca_pem", ca), ("cert_pem", cert), ("key_pem", key)) if path is not None]

    def parse(contents: Sequence[bytes]) -> Identity:
        identity = Identity(**{part: content for (part, _), content in zip(named, contents, strict=True)})
        check(identity)
        return identity

    return Reloaded([path for _, path in named], parse)


def check(identity: Identity) -> None:
    """Raises ValueError when this is no certificate, not its key, or no authority."""
    if identity.ca_pem is not None and not _certificates(identity.ca_pem):
        raise ValueError("the authority's file holds no certificate")
    if identity.cert_pem is None and identity.key_pem is None:
        return
    if identity.cert_pem is None or identity.key_pem is None:
        raise ValueError("a certificate and its key go together")
    certificates = _certificates(identity.cert_pem)
    if not certificates:
        raise ValueError("the certificate's file holds no certificate")
    try:
        key = load_pem_private_key(identity.key_pem, password=None)
    except TypeError:
        raise ValueError("the key is encrypted; Baton has no password for it") from None
    if _public(key) != _public(certificates[0]):
        raise ValueError("the key is not that of the certificate")


def _public(holder: object) -> bytes:
    key = holder.public_key()  # type: ignore[attr-defined]  # a certificate and every kind of private key have it
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _certificates(*pems: bytes | None) -> list[x509.Certificate]:
    found = []
    for pem in pems:
        if pem:
            found += x509.load_pem_x509_certificates(pem)
    return found


def _no_password() -> str:
    raise BadFile("the key is encrypted; Baton has no password for it")
