"""How long a caller waits for the leader, by its deadline."""

from __future__ import annotations

import pytest

from orchestrator.api.patience import patience_s
from orchestrator.api.saga_service import _patience_s as wait_s


@pytest.mark.parametrize(
    ("left_s", "expected_s"), [(None, 5.0), (0.4, 0.2), (9.0, 4.5), (10.0, 5.0), (600.0, 5.0), (0.0, 0.0), (-1.0, 0.0)]
)
def test_half_of_the_time_to_the_deadline_is_left_for_the_answer(left_s: float | None, expected_s: float) -> None:
    assert patience_s(left_s) == expected_s


@pytest.mark.parametrize(
    ("left_s", "expected_s"),
    [(None, 3600.0), (10.0, 9.9), (1.5, 1.4), (0.1, 0.05), (0.0, 0.0), (-1.0, 0.0), (100_000.0, 3600.0)],
)
def test_who_waits_for_the_end_of_a_saga_is_answered_just_before_its_deadline(
    left_s: float | None, expected_s: float
) -> None:
    assert wait_s(left_s) == pytest.approx(expected_s)
