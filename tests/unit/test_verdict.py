"""The table of evidence, entry by entry, and the allowance of accusations."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.leadership.verdict import Allowance, Probe, Stream, Verdict, judge

GONE = {
    (Stream.LOST, Probe.REFUSED),
    (Stream.LOST, Probe.STRANGER),
    (Stream.LOST, Probe.RESTARTED),
    (Stream.SILENT, Probe.RESTARTED),
    (Stream.NEVER, Probe.RESTARTED),
}
FROZEN = {(Stream.SILENT, Probe.MUTE)}


@pytest.mark.parametrize(("stream", "probe"), list(itertools.product(Stream, Probe)))
def test_every_combination_has_its_verdict(stream: Stream, probe: Probe) -> None:
    if (stream, probe) in GONE:
        expected = Verdict.GONE
    elif (stream, probe) in FROZEN:
        expected = Verdict.FROZEN
    else:
        expected = None

    assert judge(stream, probe, own_pause=False) is expected


@pytest.mark.parametrize(("stream", "probe"), list(itertools.product(Stream, Probe)))
def test_after_a_pause_of_our_own_silence_proves_nothing(stream: Stream, probe: Probe) -> None:
    expected = Verdict.GONE if (stream, probe) in GONE else None

    assert judge(stream, probe, own_pause=True) is expected


@pytest.mark.parametrize("stream", Stream)
@pytest.mark.parametrize("probe", [Probe.ALIVE, Probe.UNREACHABLE])
def test_a_leader_that_lives_or_cannot_be_reached_is_never_accused(stream: Stream, probe: Probe) -> None:
    assert judge(stream, probe, own_pause=False) is None


def test_an_allowance_gives_a_burst_then_refuses() -> None:
    allowance = Allowance.full(2, 5.0, now_s=100.0)
    answers = []
    for _ in range(4):
        allowance, allowed = allowance.spend(100.0)
        answers.append(allowed)

    assert answers == [True, True, False, False]


def test_an_allowance_refills_one_by_one() -> None:
    allowance = Allowance.full(2, 5.0, now_s=100.0)
    for _ in range(3):
        allowance, _ = allowance.spend(100.0)

    allowance, early = allowance.spend(104.9)
    allowance, due = allowance.spend(105.1)
    allowance, again = allowance.spend(105.2)

    assert (early, due, again) == (False, True, False)


def test_an_allowance_never_holds_more_than_its_burst() -> None:
    allowance = Allowance.full(2, 5.0, now_s=100.0)
    answers = []
    for _ in range(3):
        allowance, allowed = allowance.spend(10_000.0)
        answers.append(allowed)

    assert answers == [True, True, False]
