"""A definition that demands certified participants is applied when every pair has a certificate, and not before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from orchestrator.certify.certificate import Certificate
from orchestrator.certify.contract import contract_hash
from orchestrator.driving.codec import Descriptors
from orchestrator.driving.reflection import describe
from orchestrator.driving.registry import Registry
from orchestrator.errors import Rejected
from orchestrator.sagalog.certificates import PostgresCertificates
from orchestrator.sagalog.definitions import PostgresDefinitions
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.telemetry import Metrics
from tests.integration.api_world import definition, descriptors

PAIRS = (
    ("shop.v1.InventoryService/Reserve", "shop.v1.InventoryService/Release"),
    ("shop.v1.PaymentService/Charge", "shop.v1.PaymentService/Refund"),
)
DEMANDING = definition("strict").replace("steps:", "certified: required\nsteps:")


def certificate(pair: tuple[str, str], *, day: int, safe: bool = True, address: str = "127.0.0.1:1") -> Certificate:
    digest = contract_hash(Descriptors(descriptors()), *pair)
    checks = (("late-action", "passed" if safe else "failed"),)
    return Certificate(address, *pair, digest, safe, True, checks, datetime(2026, 1, day, tzinfo=UTC))


@pytest.fixture
async def world(database: str) -> AsyncIterator[tuple[Registry, PostgresCertificates]]:
    migrate(database)
    pool = Pool(database, "baton-pool-r1", 4, 30.0, Metrics("test", "r1"))
    certificates = PostgresCertificates(pool)
    yield Registry(PostgresDefinitions(pool), describe, certificates.certificates), certificates
    await pool.close()


async def refused_steps(registry: Registry) -> dict[str, str]:
    """The steps that a refusal names, with what it says of them."""
    with pytest.raises(Rejected) as caught:
        await registry.apply(DEMANDING, descriptors())
    with pytest.raises(Rejected):
        await registry.check(DEMANDING, descriptors())
    assert all(violation.line for violation in caught.value.violations)
    return {violation.step: violation.description for violation in caught.value.violations}


async def test_each_pair_needs_a_safe_certificate_at_its_own_address(
    world: tuple[Registry, PostgresCertificates],
) -> None:
    registry, certificates = world
    refused = await refused_steps(registry)
    assert refused.keys() == {"reserve", "pay"}
    assert (
        "run: baton certify 127.0.0.1:1 --action shop.v1.PaymentService/Charge "
        '--compensation shop.v1.PaymentService/Refund --request \'{"order_id":"$ID","amount":"1.00"}\' '
        '--compensation-request \'{"order_id":"$ID"}\' --record' in refused["pay"]
    )
    await certificates.insert_certificate(certificate(PAIRS[0], day=1))
    await certificates.insert_certificate(certificate(PAIRS[1], day=1, address="127.0.0.1:2"))
    assert (await refused_steps(registry)).keys() == {"pay"}
    await certificates.insert_certificate(certificate(PAIRS[1], day=2, safe=False))
    assert "found unsafe (late-action)" in (await refused_steps(registry))["pay"]
    await certificates.insert_certificate(certificate(PAIRS[1], day=3))
    stored, existing = await registry.apply(DEMANDING, descriptors())
    assert (stored.version, existing) == (1, False)
    # What is stored is used as it is, whatever is found later.
    await certificates.insert_certificate(certificate(PAIRS[1], day=4, safe=False))
    assert (await registry.get("strict", 1)).definition.certified


async def test_a_definition_that_demands_nothing_needs_no_certificate(
    world: tuple[Registry, PostgresCertificates],
) -> None:
    registry, _ = world
    stored, _ = await registry.apply(definition("lax"), descriptors())
    assert stored.version == 1
