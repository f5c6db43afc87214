"""A lease's deadline: counted from before the question, never moved back, and final once lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.leadership.lease import Lease, LeaseState

TIMES = st.floats(min_value=0, max_value=1e6)


def test_deadline_counts_from_before_the_question_less_the_margin() -> None:
    lease = Lease.granted(7, asked_at_s=100.0, ttl_s=2.0, margin_s=0.25)

    assert lease.deadline_s == 101.75


def test_held_until_the_deadline_then_in_doubt() -> None:
    lease = Lease.granted(7, asked_at_s=100.0, ttl_s=2.0, margin_s=0.25)

    assert lease.state(101.749) is LeaseState.HELD
    assert lease.state(101.75) is LeaseState.IN_DOUBT
    assert lease.state(500.0) is LeaseState.IN_DOUBT


def test_a_renewal_moves_the_deadline_on() -> None:
    lease = Lease.granted(7, 100.0, 2.0, 0.25).renewed(sent_at_s=101.0, ttl_s=2.0, margin_s=0.25)

    assert lease.deadline_s == 102.75
    assert lease.state(102.0) is LeaseState.HELD


def test_a_renewal_after_the_deadline_brings_the_lease_back() -> None:
    lease = Lease.granted(7, 100.0, 2.0, 0.25)
    assert lease.state(103.0) is LeaseState.IN_DOUBT

    assert lease.renewed(103.0, 2.0, 0.25).state(103.5) is LeaseState.HELD


def test_a_late_answer_to_an_early_keep_alive_moves_nothing_back() -> None:
    late = Lease.granted(7, 100.0, 2.0, 0.25).renewed(103.0, 2.0, 0.25)

    assert late.renewed(101.0, 2.0, 0.25) == late


def test_zero_or_less_seconds_left_means_lost() -> None:
    lease = Lease.granted(7, 100.0, 2.0, 0.25)

    for ttl_s in (0, -1):
        assert lease.renewed(100.5, ttl_s, 0.25).state(100.6) is LeaseState.LOST


def test_lost_stays_lost() -> None:
    lost = Lease.granted(7, 100.0, 2.0, 0.25).renewed(100.5, 0, 0.25)

    assert lost.renewed(101.0, 2.0, 0.25).state(101.0) is LeaseState.LOST
    assert lost.left_s(100.6) == 0.0


def test_seconds_left() -> None:
    lease = Lease.granted(7, 100.0, 2.0, 0.25)

    assert lease.left_s(101.0) == 0.75
    assert lease.left_s(110.0) == 0.0


@given(st.lists(st.tuples(TIMES, st.floats(0.5, 60.0)), min_size=1), TIMES)
def test_the_order_of_answers_does_not_matter(answers: list[tuple[float, float]], now_s: float) -> None:
    lease = Lease.granted(7, 0.0, 2.0, 0.25)
    forth, back = lease, lease
    for sent_at_s, ttl_s in answers:
        forth = forth.renewed(sent_at_s, ttl_s, 0.25)
    for sent_at_s, ttl_s in reversed(answers):
        back = back.renewed(sent_at_s, ttl_s, 0.25)

    assert forth == back
    assert (forth.state(now_s) is LeaseState.HELD) == (forth.left_s(now_s) > 0)
