"""baton.v1.CertificationService: certificates of participants are stored and listed."""

from __future__ import annotations

from typing import Protocol

from orchestrator.api import checks
from orchestrator.api.errors import Context, answered
from orchestrator.certify.certificate import Certificate
from orchestrator.pb.baton.v1 import certification_pb2, certification_pb2_grpc

CERTIFICATE_CHARS_MAX = 20_000


class Certificates(Protocol):
    """Where certificates are kept. Both methods raise LogUnavailable, and Overloaded."""

    async def insert_certificate(self, certificate: Certificate) -> None:
        """Store a certificate; the same one again changes nothing."""

    async def certificates(self, participant: str = "") -> list[Certificate]:
        """The newest certificate of each pair, of one address or of all."""


class CertificationService(certification_pb2_grpc.CertificationServiceServicer):
    """Serves the API."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    @answered
    async def RecordCertificate(
        self, request: certification_pb2.RecordCertificateRequest, context: Context
    ) -> certification_pb2.RecordCertificateResponse:
        """Check a certificate and store it."""
        text = request.certificate_json
        if len(text) > CERTIFICATE_CHARS_MAX or "\x00" in text or "\\u0000" in text:
            raise checks.rejected(
                "certificate_json", f"must have at most {CERTIFICATE_CHARS_MAX} characters, and none of them NUL"
            )
        await self._certificates.insert_certificate(Certificate.from_json(text))
        return certification_pb2.RecordCertificateResponse()

    @answered
    async def ListCertificates(
        self, request: certification_pb2.ListCertificatesRequest, context: Context
    ) -> certification_pb2.ListCertificatesResponse:
        """The newest of each pair."""
        found = await self._certificates.certificates(request.participant.replace("\x00", ""))
        return certification_pb2.ListCertificatesResponse(certificates_json=[each.to_json() for each in found])
