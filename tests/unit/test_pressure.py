"""When new sagas are taken, and when not: limits, the gap between shutting and opening, and what callers are told."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import Settings
from orchestrator.errors import Overloaded
from orchestrator.pressure import memory
from orchestrator.pressure.backpressure import limits_of
from orchestrator.pressure.door import Door
from orchestrator.pressure.judge import Cause, Limits, explain, judge, retry_delay_s
from orchestrator.sagalog.strain import Backlog, Strain
from orchestrator.telemetry import Metrics

LIMITS = Limits({cause: 100.0 for cause in Cause}, reopen_share=0.8)
OPEN: frozenset[Cause] = frozenset()


@pytest.mark.parametrize("cause", list(Cause))
def test_a_cause_shuts_above_its_limit_and_opens_below_a_share_of_it(cause: Cause) -> None:
    assert judge(OPEN, {cause: 100.0}, LIMITS) == OPEN
    shut = judge(OPEN, {cause: 100.1}, LIMITS)
    assert shut == {cause}
    assert judge(shut, {cause: 80.1}, LIMITS) == {cause}
    assert judge(shut, {cause: 80.0}, LIMITS) == OPEN


@given(
    st.frozensets(st.sampled_from(Cause)),
    st.dictionaries(st.sampled_from(Cause), st.floats(min_value=0, max_value=1e9)),
)
def test_every_cause_is_judged_by_itself(before: frozenset[Cause], readings: dict[Cause, float]) -> None:
    after = judge(before, readings, LIMITS)
    for cause in Cause:
        alone = judge(before & {cause}, {c: r for c, r in readings.items() if c is cause}, LIMITS)
        assert (cause in after) == (cause in alone)


def test_what_cannot_be_measured_stays_as_it_was() -> None:
    assert judge(frozenset({Cause.BACKLOG}), {}, LIMITS) == {Cause.BACKLOG}
    assert judge(OPEN, {}, LIMITS) == OPEN


def test_a_cause_without_a_limit_never_shuts() -> None:
    limits = limits_of(Settings(pending_max=0, memory_bytes_max=0, commit_max_s=0))
    readings = {Cause.BACKLOG: 1e12, Cause.COMMIT: 1e12}
    assert judge(OPEN, readings, limits) == OPEN
    assert judge(OPEN, {Cause.AGE: 1e12}, limits) == {Cause.AGE}


@pytest.mark.parametrize("cause", list(Cause))
def test_a_caller_is_told_the_reason(cause: Cause) -> None:
    text = explain(frozenset({cause}), {cause: 123.0}, LIMITS)
    assert text.startswith("no new sagas are taken now: ")
    assert "{" not in text
    assert cause is Cause.DISK or "123" in text


def test_callers_come_back_later_the_longer_it_lasts_and_never_all_at_once() -> None:
    backlog = frozenset({Cause.BACKLOG})
    delays_s = [retry_delay_s(backlog, shut_for_s, 0.5) for shut_for_s in (0, 4, 16, 3600)]
    assert delays_s == sorted(delays_s)
    assert delays_s[0] > 0
    assert delays_s[-1] == 5.0
    assert retry_delay_s(backlog, 0, 0.0) < retry_delay_s(backlog, 0, 0.9)
    # What ails this replica alone: another one may be asked at once.
    assert retry_delay_s(frozenset({Cause.MEMORY}), 3600, 0.5) < delays_s[0]


@dataclass
class Gauges:
    """A replica whose gauges the test reads out."""

    backlog: Backlog | None = None
    commit_s: float | None = None
    absent_s: float = 0.0
    waiting: int = 0
    disk_full_at_s: float = float("-inf")
    metrics: Metrics = field(default_factory=lambda: Metrics("test", "r1"))

    def pressure(self, cause: Cause) -> float | None:
        return self.metrics.registry.get_sample_value("baton_pressure", {"cause": cause.value})


@pytest.mark.parametrize(
    ("finished_s", "under_way_s", "expected_s"),
    [
        ((0.01, 0.01), None, None),
        ((0.01, 0.01, 5.0), None, 0.01),
        ((2.0, 3.0, 4.0), None, 2.0),
        # One that has just begun does not make the others fast.
        ((2.0, 3.0, 4.0), 0.0, 2.0),
        # One that hangs is known by the time it has taken so far.
        ((0.01, 3.0, 4.0), 60.0, 3.0),
        ((0.01, 0.01, 0.02), 60.0, 0.01),
    ],
)
def test_commits_are_slow_when_the_last_three_are(
    finished_s: tuple[float, ...], under_way_s: float | None, expected_s: float | None
) -> None:
    strain = Strain("", "r1", 0, 1.0, 10)
    strain._commits_s.extend(finished_s)
    strain._asking_since_s = None if under_way_s is None else time.monotonic() - under_way_s
    assert strain.commit_s == expected_s


def test_the_door_shuts_and_opens_by_its_gauges_and_the_metric_says_so() -> None:
    gauges = Gauges()
    door = Door(Limits({Cause.BACKLOG: 10.0, Cause.QUEUE: 5.0}, 0.5), gauges, gauges, gauges.metrics)
    door.look()
    door.admit()
    assert gauges.pressure(Cause.BACKLOG) == 0
    gauges.backlog = Backlog(11, 0.0)
    door.look()
    with pytest.raises(Overloaded, match="11 sagas wait to be begun") as refused:
        door.admit()
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s > 0
    assert gauges.pressure(Cause.BACKLOG) == 1
    gauges.waiting = 6
    gauges.backlog = Backlog(5, 0.0)
    door.look()
    with pytest.raises(Overloaded, match="6 starts wait"):
        door.admit()
    assert (gauges.pressure(Cause.BACKLOG), gauges.pressure(Cause.QUEUE)) == (0, 1)
    gauges.waiting = 0
    door.look()
    door.admit()
    assert gauges.pressure(Cause.QUEUE) == 0


async def test_memory_is_measured_and_given_back_while_there_is_too_much_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    held = memory.held_bytes()
    assert 1_000_000 < held < 1 << 40
    trimmed = asyncio.Event()
    gauges = Gauges()
    door = Door(Limits({Cause.MEMORY: held / 2}, 0.8), gauges, gauges, gauges.metrics)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(door._trim, "_trim", lambda _: loop.call_soon_threadsafe(trimmed.set))
    running = asyncio.create_task(door.run())
    async with asyncio.timeout(20):
        await trimmed.wait()
    with pytest.raises(Overloaded, match="bytes"):
        door.admit()
    running.cancel()


def test_the_memory_limit_is_the_one_that_was_set_else_the_containers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    file = tmp_path / "memory.max"  # type: ignore[operator]
    monkeypatch.setattr(memory, "_CONTAINER_LIMITS", (file,))
    assert memory.limit_bytes(0) == 0
    file.write_text("max\n")
    assert memory.limit_bytes(0) == 0
    file.write_text("1000000\n")
    assert memory.limit_bytes(0) == 850_000
    assert memory.limit_bytes(7) == 7
