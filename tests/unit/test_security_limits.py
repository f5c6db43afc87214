"""How much a caller may ask for: calls a second, calls and streams under way, the size of a message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import LimitReached
from orchestrator.security.caller import ANONYMOUS, Caller, Limits
from orchestrator.security.limits import Ledger


def enter(
    ledger: Ledger, now_s: float, *, name: str = "a", cost: float = 1, size: int = 0, stream: bool = False
) -> Any:
    return ledger.enter(replace(ANONYMOUS, name=name), cost, size, now_s, stream=stream)


def test_a_caller_makes_no_more_calls_than_it_may_and_is_told_when_to_come_again() -> None:
    ledger = Ledger(Limits(calls_per_s=2))
    for _ in range(2):
        ledger.leave(enter(ledger, 0.0), stream=False)
    with pytest.raises(LimitReached) as refused:
        enter(ledger, 0.1)
    assert refused.value.retry_after_s == pytest.approx(0.4)
    enter(ledger, 0.1, name="another")
    enter(ledger, 0.5)


def test_a_batch_counts_as_what_it_holds() -> None:
    ledger = Ledger(Limits(calls_per_s=10))
    # Larger than a second's worth: let in when nothing was asked before, and paid off afterwards.
    ledger.leave(enter(ledger, 0.0, cost=30), stream=False)
    with pytest.raises(LimitReached):
        enter(ledger, 2.0)
    enter(ledger, 2.2)


def test_calls_and_streams_under_way_are_bounded_apart() -> None:
    ledger = Ledger(Limits(calls=1, streams=1))
    stream = enter(ledger, 0.0, stream=True)
    call = enter(ledger, 0.0)
    for kind in (True, False):
        with pytest.raises(LimitReached, match="1 are allowed"):
            enter(ledger, 0.0, stream=kind)
    ledger.leave(stream, stream=True)
    ledger.leave(call, stream=False)
    enter(ledger, 0.0, stream=True)
    enter(ledger, 0.0)


def test_a_caller_may_have_limits_of_its_own() -> None:
    ledger = Ledger(Limits(calls_per_s=1))
    own = Caller("own", frozenset(), limits=Limits(message_bytes=10))
    for _ in range(5):
        ledger.leave(ledger.enter(own, 1, 10, 0.0, stream=False), stream=False)
    with pytest.raises(LimitReached, match="larger than max"):
        ledger.enter(own, 1, 11, 0.0, stream=False)


def test_idle_callers_are_forgotten_and_busy_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.security.limits.CALLERS_MAX", 3)
    ledger = Ledger(Limits(calls=5))
    ledger.leave(enter(ledger, 0.0, name="idle"), stream=False)
    for number in range(3):
        enter(ledger, 0.0, name=f"busy-{number}")
    assert list(ledger.accounts) == ["busy-0", "busy-1", "busy-2"]
    enter(ledger, 0.0, name="busy-3")
    assert "busy-0" in ledger.accounts
