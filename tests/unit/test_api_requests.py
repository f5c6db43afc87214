"""What of requests is checked before anything is stored, and how the newest version of a definition is found."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from google.rpc import error_details_pb2

from orchestrator.api import checks, starts
from orchestrator.api.errors import status
from orchestrator.api.inputs import DEPTH_MAX, parsed
from orchestrator.api.starts import AskedStart, Newest, Starts
from orchestrator.errors import FieldViolation, LogUnavailable, Overloaded, Rejected
from orchestrator.saga.model import SagaId


def complaint(data: bytes) -> list[str]:
    with pytest.raises(Rejected) as caught:
        parsed(data)
    return [violation.field for violation in caught.value.violations]


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_integers_keep_all_64_bits_and_no_more() -> None:
    good = b'{"a": 18446744073709551615, "b": -9223372036854775808, "c": 1e30, "d": "123456789012345678901234567890"}'
    assert parsed(good)["a"] == 2**64 - 1
    assert complaint(b'{"a": {"b": [1, 18446744073709551616]}}') == ["input.a.b[1]"]
    assert complaint(b'{"a": -9223372036854775809}') == ["input.a"]


def test_a_nul_is_refused_wherever_it_stands_and_an_escaped_backslash_is_none() -> None:
    assert complaint(rb'{"a": ["x\u0000"]}') == ["input.a[0]"]
    assert complaint(rb'{"a": {"b\u0000": 1}}') == ["input.a"]
    assert parsed(rb'{"a": "x\\u0000"}') == {"a": "x\\u0000"}


def test_the_depth_is_bounded_to_the_level() -> None:
    assert parsed(nested(DEPTH_MAX))
    assert complaint(nested(DEPTH_MAX + 1))[0].startswith("input.a[0]")
    wide = b'{"a": [' + b",".join([b"[]"] * 1000) + b"]}"
    assert parsed(wide)


@pytest.mark.parametrize(
    "text", ["", "7", "01a1fc17cf0f70008000000000000000", "{01a1fc17-cf0f-7000-8000-000000000000}"]
)
def test_an_id_has_one_form(text: str) -> None:
    with pytest.raises(Rejected, match="saga_id"):
        checks.saga_id(text)


def test_a_page_token_is_good_for_its_own_filters_alone() -> None:
    last = SagaId(UUID(int=7))
    token = checks.page_token(b"filters", last)
    assert checks.page_start(token, b"filters") == last
    assert checks.page_start("", b"filters") is None
    for bad, filters in ((token, b"others"), (token[:-1], b"filters"), ("?", b"filters"), ("A" * 40, b"filters")):
        with pytest.raises(Rejected, match="page_token"):
            checks.page_start(bad, filters)


def test_a_status_stays_small_however_much_is_wrong() -> None:
    many = tuple(FieldViolation(f"steps[{n}].action.method", "x" * 5000) for n in range(1000))
    made = status(Rejected("the definition is not valid", many))
    assert made.ByteSize() < 6000
    bad = error_details_pb2.BadRequest()
    assert made.details[1].Unpack(bad)
    assert bad.field_violations[0].field == "steps[0].action.method"
    assert "more" in bad.field_violations[-1].description


class SlowRegistry:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.answer = asyncio.Event()

    async def newest(self, name: str) -> Any:
        self.asked += 1
        number = self.asked
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return number


async def test_many_who_ask_for_the_newest_version_share_one_read_and_its_error() -> None:
    registry: Any = SlowRegistry()
    newest = Newest(registry)
    asking = [asyncio.create_task(newest.get("order")) for _ in range(50)]
    await asyncio.sleep(0)
    registry.error = LogUnavailable("away")
    registry.answer.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(answer, LogUnavailable) for answer in answers)
    assert registry.asked == 1
    registry.error = None
    assert await newest.get("order") == 2
    assert await newest.get("order") == 2


async def test_when_the_one_who_reads_goes_away_another_reads() -> None:
    registry: Any = SlowRegistry()
    newest = Newest(registry)
    first = asyncio.create_task(newest.get("order"))
    await asyncio.sleep(0)
    second = asyncio.create_task(newest.get("order"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    registry.answer.set()
    assert await asyncio.wait_for(second, 5) == 2


async def test_the_newest_version_is_read_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Any = SlowRegistry()
    registry.answer.set()
    newest = Newest(registry)
    assert await newest.get("order") == 1
    monkeypatch.setattr(starts, "NEWEST_FRESH_S", 0.0)
    newest = Newest(registry)
    assert [await newest.get("order"), await newest.get("order")] == [2, 3]


class NoIntake:
    def submit(self, new: Any) -> asyncio.Future[Any]:
        raise AssertionError(f"nothing is to be stored: {new}")


class NoReader:
    async def started_as(self, request_id: str, request_hash: bytes) -> None:
        raise AssertionError(f"a start without a request id was never made before: {request_id}")


async def test_large_inputs_are_checked_as_far_as_there_is_room_and_small_ones_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = SlowRegistry()
    reader: Any = NoReader()
    way = Starts(registry, NoIntake(), 1_000_000, reader)
    large = AskedStart("order", 0, '{"a": "' + "x" * 100_000 + '"}', {}, "")
    monkeypatch.setattr(starts, "LARGE_BYTES_MAX", 250_000)
    checked = [asyncio.create_task(way.submit(large)) for _ in range(2)]
    while not registry.asked:
        await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await way.submit(large)
    small = asyncio.create_task(way.submit(AskedStart("order", 0, "{}", {}, "")))
    await asyncio.sleep(0)
    assert not small.done()
    registry.error = LogUnavailable("away")
    registry.answer.set()
    outcomes = await asyncio.gather(*checked, small, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {LogUnavailable}
    # What they took is free again.
    with pytest.raises(LogUnavailable):
        await way.submit(large)
