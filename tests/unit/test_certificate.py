"""Certificates: what a report is worth, how long it holds, and the hash of a method pair's messages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from orchestrator.certify.certificate import Certificate, certificate_of, missing_certificate
from orchestrator.certify.contract import contract_hash
from orchestrator.certify.findings import Check, Finding, Report, Verdict
from orchestrator.certify.template import parse
from orchestrator.driving.codec import Descriptors
from orchestrator.errors import Rejected
from participants.pb.shop.v1 import echo_pb2, payment_pb2

AT = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
PASSED = Finding(Check.LATE_ACTION, "unary", Verdict.PASSED)
REPORT = Report("host:1", "a.B/Do", "a.B/Undo", "abc", True, (PASSED,))
CERTIFICATE = certificate_of(REPORT, AT)


def test_a_certificate_survives_json() -> None:
    assert Certificate.from_json(CERTIFICATE.to_json()) == CERTIFICATE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("participant", ""),
        ("action", 7),
        ("safe", "yes"),
        ("checks", ["x"]),
        ("at", "noon"),
        ("at", "2024-02-29T12:30"),
    ],
)
def test_what_is_no_certificate_is_refused_by_its_field(field: str, value: object) -> None:
    broken = {**orjson.loads(CERTIFICATE.to_json()), field: value}
    with pytest.raises(Rejected, match=f": {field}: must"):
        Certificate.from_json(orjson.dumps(broken))
    with pytest.raises(Rejected, match="is not JSON"):
        Certificate.from_json("{")


def test_the_worst_verdict_over_all_ways_of_calling_counts() -> None:
    failed = Finding(Check.LATE_ACTION, "stream", Verdict.FAILED, "it took effect")
    report = replace(REPORT, findings=(PASSED, failed, Finding(Check.CRASH, "unary", Verdict.NOT_CHECKED)))
    certificate = certificate_of(report, AT)
    assert not certificate.safe
    assert dict(certificate.checks) == {"late-action": "failed", "crash": "not_checked"}


def test_nothing_checked_is_not_safe() -> None:
    assert not replace(REPORT, findings=()).safe
    assert not replace(REPORT, findings=(Finding(Check.CRASH, "unary", Verdict.NOT_CHECKED),)).safe


def test_the_newest_certificate_of_the_same_messages_counts() -> None:
    pair = ("host:1", "a.B/Do", "a.B/Undo")
    unsafe = replace(CERTIFICATE, safe=False, checks=(("late-action", "failed"),), at=AT + timedelta(days=1))
    assert missing_certificate([CERTIFICATE], *pair, "abc", "baton certify host:1") is None
    assert "never been certified; run: baton certify host:1" in str(
        missing_certificate([], *pair, "abc", "baton certify host:1")
    )
    assert "have changed" in str(missing_certificate([CERTIFICATE], *pair, "abcd", ""))
    assert "unsafe (late-action)" in str(
        missing_certificate([unsafe, CERTIFICATE], *pair, "abc", "baton certify host:1")
    )
    mended = replace(CERTIFICATE, at=AT + timedelta(days=2))
    assert missing_certificate([unsafe, mended, CERTIFICATE], *pair, "abc", "baton certify host:1") is None
    assert missing_certificate([CERTIFICATE], "host:2", "a.B/Do", "a.B/Undo", "abc", "") is not None


def described(*files: str) -> FileDescriptorSet:
    """The descriptors of modules of ours."""
    modules = {"echo": echo_pb2, "payment": payment_pb2}
    found = FileDescriptorSet()
    for file in files:
        modules[file].DESCRIPTOR.CopyToProto(found.file.add())
    return found


def digest(files: FileDescriptorSet) -> str:
    pair = ("/shop.v1.PaymentService/Charge", "/shop.v1.PaymentService/Refund")
    return contract_hash(Descriptors(files.SerializeToString()), *pair)


def test_a_contract_is_its_messages_and_nothing_else() -> None:
    alone = described("payment")
    assert digest(alone) == digest(described("echo", "payment"))
    grown = described("payment")
    grown.file[0].message_type.add(name="Unrelated").field.add(name="x", number=1, type=9, label=1)
    grown.file[0].service[0].method.add(
        name="More", input_type=".shop.v1.Unrelated", output_type=".shop.v1.ChargeResponse"
    )
    assert digest(alone) == digest(grown)
    changed = described("payment")
    request = next(message for message in changed.file[0].message_type if message.name == "ChargeRequest")
    request.field.add(name="currency", number=9, type=9, label=1)
    assert digest(alone) != digest(changed)


def test_a_template_fills_ids_and_results() -> None:
    template = parse('{"order": "x-$ID", "lines": [{"id": "$ID", "n": 3}], "payment": "$RESULT.a.b"}', "--request")
    assert template.unique
    filled = template.fill("7", {"a": {"b": 12}})
    assert filled == {"order": "x-7", "lines": [{"id": "7", "n": 3}], "payment": 12}
    assert template.fill("7")["payment"] is None
    assert not parse('{"order": "x"}', "--request").unique
