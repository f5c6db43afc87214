"""When new starts are held: a share of a full window, however few sagas have ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.saga.definition import HoldStarts
from orchestrator.saga.holding import starts_held, turned_back
from orchestrator.telemetry import Metrics

C, U, F = "COMPLETED", "COMPENSATED", "FAILED"


@pytest.mark.parametrize(
    ("share", "of_last", "ended", "held"),
    [
        (0.5, 4, [U, U, U, C], True),
        (0.5, 4, [U, U, C, C], False),  # Half is not more than half.
        (0.5, 4, [U, F, U], True),  # Decided before the window is full, when nothing can change it.
        (0.5, 4, [U, U], False),  # Two of two say little.
        (0.5, 4, [C, C, C, C, U, U, U, U], False),  # The latest count.
        (0.5, 4, [U, U, U, C, C, C, C], True),
        (0.0, 4, [C, C, C, U], True),
        (0.0, 4, [C, C, C, C], False),
        (1.0, 4, [U, U, U, U], False),  # More than all is never.
        (0.5, 1, [F], True),
        (0.5, 4, [], False),
    ],
)
def test_starts_are_held_when_more_than_the_share_of_the_last_sagas_turned_back(
    share: float, of_last: int, ended: list[str], held: bool
) -> None:
    assert starts_held(HoldStarts(share, of_last, 60.0), ended) is held


@given(
    st.floats(0, 1), st.integers(1, 50), st.lists(st.sampled_from([C, U, F]), max_size=80), st.sampled_from([C, U, F])
)
def test_another_good_end_never_holds_and_another_bad_one_never_releases(
    share: float, of_last: int, ended: list[str], state: str
) -> None:
    policy = HoldStarts(share, of_last, 60.0)
    before, after = starts_held(policy, ended), starts_held(policy, [state, *ended])
    assert after <= before if state == C else after >= before or turned_back(ended[: of_last - 1]) < turned_back(ended)
    assert not starts_held(policy, [C] * 100)


def test_the_metric_knows_every_definition_and_says_1_while_its_starts_are_held() -> None:
    metrics = Metrics("test", "r1")
    metrics.definition_known("order")

    def shown() -> dict[str, float]:
        samples = next(iter(metrics.starts_held.collect())).samples
        return {sample.labels["definition"]: sample.value for sample in samples}

    metrics.starts_are_held(())
    assert shown() == {"order": 0}
    metrics.starts_are_held({"order", "refund"})
    assert shown() == {"order": 1, "refund": 1}
    metrics.starts_are_held({"refund"})
    assert shown() == {"order": 0, "refund": 1}
