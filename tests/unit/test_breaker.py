"""The breaker of a participant: when calls are held, and how they come back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from heapq import heappop, heappush

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.driving.breaker import Breaker, BreakerPolicy

POLICY = BreakerPolicy(misses=3, first_s=1.0, most_s=8.0, ramp=2, ramp_step_s=1.0, ramp_steps=3)


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(POLICY.misses):
        breaker.missed(now_s, 0.0)
    return breaker


def test_a_participant_that_is_missed_now_and_then_is_called_on() -> None:
    breaker = Breaker(POLICY)
    for now_s in range(20):
        assert breaker.wait_s(now_s, 0.0) is None
        breaker.missed(now_s, 0.0)
        assert breaker.wait_s(now_s, 0.0) is None
        breaker.missed(now_s, 0.0)
        breaker.reached(now_s)
    assert not breaker.open


def test_misses_in_a_row_hold_all_calls_but_the_one_that_tries() -> None:
    breaker = opened()
    assert breaker.open
    assert breaker.wait_s(0.5, 0.0) is not None
    assert breaker.wait_s(1.0, 0.0) is None
    assert breaker.wait_s(1.0, 0.0) is not None


def test_an_outage_is_tried_less_and_less_often() -> None:
    breaker = opened()
    pauses, now_s = [], 1.0
    for _ in range(5):
        assert breaker.wait_s(now_s, 0.0) is None
        pause_s = breaker.missed(now_s, 0.0)
        pauses.append(pause_s)
        now_s += pause_s
    assert pauses == [2.0, 4.0, 8.0, 8.0, 8.0]


def test_what_fails_together_counts_once() -> None:
    breaker = Breaker(POLICY)
    waits = [breaker.missed(0.0, 0.0) for _ in range(100)]
    assert max(waits) == POLICY.first_s


def test_calls_come_back_in_a_ramp() -> None:
    breaker = opened()
    assert breaker.wait_s(1.0, 0.0) is None
    breaker.reached(1.0)
    let_in = [sum(breaker.wait_s(1.0 + step, 0.0) is None for _ in range(100)) for step in range(3)]
    assert let_in == [2, 4, 8]
    assert all(breaker.wait_s(4.0, 0.0) is None for _ in range(100))


def test_a_miss_in_the_ramp_needs_no_new_proof_to_be_believed() -> None:
    breaker = opened()
    breaker.wait_s(1.0, 0.0)
    breaker.reached(1.0)
    for _ in range(POLICY.misses):
        breaker.missed(1.1, 0.0)
    assert breaker.open


def test_a_trial_that_was_given_up_leaves_the_next_one_to_try() -> None:
    breaker = opened()
    assert breaker.wait_s(1.0, 0.0) is None
    breaker.unheard()
    assert breaker.wait_s(1.0, 0.0) is None


def test_however_many_are_held_only_so_many_ask_again_in_a_second() -> None:
    policy = replace(POLICY, turns_per_s=10)
    breaker, now_s, asked = Breaker(policy), 0.0, Counter[int]()
    for _ in range(policy.misses):
        breaker.missed(now_s, 0.0)
    waiting = [0.5] * 1000
    while now_s < 400.0:
        now_s = heappop(waiting)
        asked[int(now_s)] += 1
        wait_s = breaker.wait_s(now_s, (7 * now_s) % 1.0)
        heappush(waiting, now_s + (breaker.missed(now_s, 0.0) if wait_s is None else wait_s))
    # All came at once in the beginning. Whoever tries the participant out comes beside the others.
    assert max(count for second, count in asked.items() if 0 < second < 400) <= policy.turns_per_s + 1
    # Nobody waits much longer than it takes all to have their turn.
    assert sum(asked[second] for second in range(200, 300)) > 0.9 * 100 * policy.turns_per_s


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.floats(0, 0.99)), max_size=60))
def test_whoever_is_held_is_let_in_in_the_end(happenings: list[tuple[float, bool, float]]) -> None:
    breaker, now_s = Breaker(POLICY), 0.0
    for pause_s, reached, chance in happenings:
        now_s += pause_s
        if breaker.wait_s(now_s, chance) is None:
            if reached:
                breaker.reached(now_s)
            else:
                breaker.missed(now_s, chance)
    for _ in range(20):
        wait_s = breaker.wait_s(now_s, 0.5)
        if wait_s is None:
            return
        assert 0 < wait_s <= 1.5 * POLICY.most_s
        now_s += wait_s
    raise AssertionError("it was held for ever")
