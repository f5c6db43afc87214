"""What stays flat over a soak, and what grows."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from orchestrator.drill.flat import Trend, trends
from orchestrator.drill.vitals import Vitals, examine

HOUR_S = 3600.0
CALM = Vitals("replica-1", 100, 0.0, 80 << 20, 60, 30, 12, 1, 40)


def hour(leak_bytes_a_second: float = 0.0, restart_every_s: float = HOUR_S * 2) -> list[Vitals]:
    chance = random.Random(1)
    samples = []
    for at_s in range(0, int(HOUR_S), 5):
        age_s = at_s % restart_every_s
        noise = chance.randrange(4 << 20)
        grown = CALM.private_bytes + noise + int(age_s * leak_bytes_a_second)
        pid = 100 + int(at_s // restart_every_s)
        samples.append(replace(CALM, pid=pid, at_s=float(at_s), private_bytes=grown, tasks=chance.randrange(30, 60)))
    return samples


def memory(found: list[Trend]) -> Trend:
    return next(trend for trend in found if trend.measure == "private_bytes")


def test_noise_and_restarts_are_flat() -> None:
    assert all(trend.flat for trend in trends(hour(), HOUR_S))
    assert all(trend.flat for trend in trends(hour(restart_every_s=240), HOUR_S))


def test_a_slow_leak_is_found() -> None:
    found = trends(hour(leak_bytes_a_second=20 * 1024), HOUR_S)
    assert not memory(found).flat
    assert "GROWS" in str(memory(found))
    assert [trend.measure for trend in found if not trend.flat] == ["private_bytes"]


@pytest.mark.parametrize("measure", ["files", "sockets", "threads", "processes", "tasks"])
def test_every_number_is_watched(measure: str) -> None:
    samples = [replace(sample, **{measure: int(sample.at_s)}) for sample in hour()]
    assert [trend.measure for trend in trends(samples, HOUR_S) if not trend.flat] == [measure]


def test_what_is_seen_too_seldom_is_not_judged() -> None:
    assert trends([replace(CALM, at_s=float(at_s)) for at_s in range(0, 600, 300)], HOUR_S) == []
    assert trends(hour(restart_every_s=20), HOUR_S) == []  # never warm


async def test_a_process_is_sampled_with_its_descendants() -> None:
    [sample] = await examine({"me": (os.getpid(), None), "gone": (2**22 - 1, None)}, 7.0)
    assert (sample.name, sample.at_s, sample.tasks) == ("me", 7.0, None)
    assert sample.private_bytes > 1 << 20
    assert sample.files >= sample.sockets >= 1
    assert min(sample.threads, sample.processes) >= 1
