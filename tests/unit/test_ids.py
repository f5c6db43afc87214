"""Saga ids: UUIDv7, in the order of time, and always growing within a process."""

from __future__ import annotations

from uuid import RFC_4122

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.saga.ids import RANDOM_BITS, saga_id, started_at_ms

times = st.integers(min_value=0, max_value=(1 << 47) - 1)
randoms = st.integers(min_value=0, max_value=(1 << RANDOM_BITS) - 1)


@given(times, randoms)
def test_an_id_is_a_uuid_of_version_7_that_carries_its_time(milliseconds: int, random_bits: int) -> None:
    made = saga_id(milliseconds, random_bits)
    assert made.version == 7
    assert made.variant == RFC_4122
    assert started_at_ms(made) == milliseconds


@given(st.lists(st.tuples(times, randoms), min_size=2, max_size=50))
def test_ids_grow_whatever_the_clock_does(moments: list[tuple[int, int]]) -> None:
    last = None
    for milliseconds, random_bits in moments:
        made = saga_id(milliseconds, random_bits, after=last)
        assert last is None or made > last
        last = made


def test_ids_of_one_millisecond_grow_beyond_the_last_random_bits() -> None:
    last = saga_id(1000, (1 << RANDOM_BITS) - 1)
    made = saga_id(1000, 0, after=last)
    assert made > last
    assert made.version == 7
    assert started_at_ms(made) == 1001


@given(times, times, randoms)
def test_a_later_millisecond_makes_a_greater_id_in_any_process(first: int, second: int, random_bits: int) -> None:
    if first < second:
        assert saga_id(first, (1 << RANDOM_BITS) - 1) < saga_id(second, random_bits)
