"""The certificates of participants in Postgres. None is ever changed; the newest of a method pair counts."""

from __future__ import annotations

from orchestrator.certify.certificate import Certificate
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.queries import load

_SQL = load("certificates.sql")
LISTED_MAX = 10_000


class PostgresCertificates:
    """Both methods raise LogUnavailable, and Overloaded when too many wait for a connection."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def insert_certificate(self, certificate: Certificate) -> None:
        """Store a certificate; the same one again changes nothing."""
        await self._pool.fetch(
            _SQL["insert_certificate"],
            {
                "participant": certificate.participant,
                "action": certificate.action,
                "compensation": certificate.compensation,
                "at": certificate.at,
                "contract_hash": certificate.contract_hash,
                "safe": certificate.safe,
                "content": certificate.to_json(),
            },
        )

    async def certificates(self, participant: str = "") -> list[Certificate]:
        """The newest certificate of each pair, of one address or of all, the newest first."""
        rows = await self._pool.fetch(_SQL["certificates"], {"participant": participant or None, "limit": LISTED_MAX})
        return [Certificate.from_json(row[0]) for row in rows]
