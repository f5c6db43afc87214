"""Failpoints: their terms, what each action does to a process, and that none is there unless it is asked for."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import grpc
import psycopg
import pytest
from pydantic import ValidationError

from orchestrator.config import Settings
from orchestrator.failpoints.armed import ARMED, STRUCK, arm, arm_all, disarm, strike, strike_in_thread
from orchestrator.failpoints.effects import EFFECTS, POINTS
from orchestrator.failpoints.terms import Action, BadTerms, Term, Terms, parse, parse_all

APPEND = "term.append.before"
TXN = "etcd.txn.after"
BEAT = "beacon.send.before"
# For a program to start and to end, on a machine that has other things to do.
WITHIN_S = 120.0


@pytest.fixture(autouse=True)
def nothing_armed() -> Iterator[None]:
    yield
    disarm()
    STRUCK.clear()


def actions(terms: Terms, times: int, chance: float = 0.5) -> list[str]:
    chosen = [terms.choose(chance) for _ in range(times)]
    return ["-" if term is None else term.action.value for term in chosen]


def test_a_chain_does_the_first_term_that_is_not_spent() -> None:
    assert actions(Terms(APPEND, "2*off->1*stop"), 5) == ["-", "-", "stop", "-", "-"]
    assert actions(Terms(APPEND, "1*log->exit"), 3) == ["log", "exit", "exit"]


def test_a_chance_that_fails_leaves_it_to_the_next_term_and_spends_no_count() -> None:
    terms = Terms(APPEND, "20%1*exit->log")
    assert actions(terms, 2, chance=0.2) == ["log", "log"]
    assert actions(terms, 2, chance=0.1) == ["exit", "log"]


def test_durations_have_units() -> None:
    assert parse(APPEND, "sleep(2s)->block(1.5ms)->hold(7us)") == (
        Term(Action.SLEEP, duration_s=2.0),
        Term(Action.BLOCK, duration_s=0.0015),
        Term(Action.HOLD, duration_s=pytest.approx(7e-6)),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("term.apend.before=exit", "'term.apend.before' is no failpoint"),
        ("term.append.before", "is not name=terms"),
        ("term.append.before=explode", "'explode' is not"),
        ("term.append.before=", "'' is not"),
        ("term.append.before=exit->", "'' is not"),
        ("term.append.before=sleep", "sleep needs a duration"),
        ("term.append.before=sleep(5)", "sleep needs a duration"),
        ("term.append.before=sleep(3600s)", "longer than 600 s"),
        ("term.append.before=101%exit", "more than always"),
        ("term.append.before=exit(1)", "exit takes no argument"),
        ("term.append.before=error(UNAVAILABLE)", "SQLSTATE"),
        ("etcd.txn.after=error(57P01)", "gRPC status code"),
        ("etcd.txn.after=error(OK)", "gRPC status code"),
        ("beacon.send.before=error(EVERYTHING)", "errno"),
        ("term.append.before=exit; term.append.before=stop", "stands there twice"),
        ("call.action.inside=exit", "is no failpoint"),
    ],
)
def test_wrong_terms_are_refused_with_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(BadTerms, match=complaint.replace("(", r"\(")):
        parse_all(text)
    with pytest.raises(ValidationError, match="failpoints"):
        Settings(failpoints=text)


def test_a_replica_has_none_by_default_and_none_by_on() -> None:
    assert Settings().failpoints == ""
    assert not parse_all("on")
    assert not ARMED


def test_every_point_can_be_armed_and_belongs_to_one_effect() -> None:
    assert len(POINTS) == sum(len(effect.points) for effect in EFFECTS.values())
    arm_all("; ".join(f"{point}=log" for point in POINTS))
    assert set(ARMED) == set(POINTS)
    assert disarm(APPEND) == 1
    assert disarm() == len(POINTS) - 1
    assert not ARMED


async def test_a_point_that_is_not_armed_does_nothing_while_others_are() -> None:
    arm(APPEND, "error")
    await strike(TXN)
    assert STRUCK[TXN] == 0


async def test_an_error_is_the_one_of_the_wire() -> None:
    for point, text, error in (
        (APPEND, "error", psycopg.OperationalError),
        (APPEND, "error(25006)", psycopg.errors.ReadOnlySqlTransaction),
        (TXN, "error", grpc.aio.AioRpcError),
        (BEAT, "error", ConnectionResetError),
        (BEAT, "error(ECONNREFUSED)", ConnectionRefusedError),
    ):
        arm(point, text)
        with pytest.raises(error):
            await strike(point)
        with pytest.raises(error):
            strike_in_thread(point)
    arm(TXN, "error(DEADLINE_EXCEEDED)")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await strike(TXN)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert STRUCK[TXN] == 3


async def test_a_sleep_pauses_its_task_and_a_block_the_whole_loop() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(tick())
        for action, others_run in (("sleep", True), ("block", False)):
            arm(APPEND, f"{action}(100ms)")
            before, began_s = ticks, time.monotonic()
            await strike(APPEND)
            assert time.monotonic() - began_s >= 0.1
            assert (ticks - before > 1) is others_run
        ticking.cancel()


def test_a_hold_lets_no_other_thread_run() -> None:
    for action, others_run in (("block", True), ("hold", False)):
        arm(APPEND, f"{action}(200ms)")
        ran_at_s: list[float] = []
        done = threading.Event()

        def watch(ran_at_s: list[float] = ran_at_s, done: threading.Event = done) -> None:
            while not done.is_set():
                ran_at_s.append(time.monotonic())
                time.sleep(0.001)
            ran_at_s.append(time.monotonic())

        thread = threading.Thread(target=watch)
        thread.start()
        while not ran_at_s:
            time.sleep(0.001)
        began_s = time.monotonic()
        strike_in_thread(APPEND)
        ended_s = time.monotonic()
        done.set()
        thread.join()
        if others_run:
            # Once before it is blocked and once behind that, the other one may run in any case.
            assert sum(began_s < at_s < ended_s for at_s in ran_at_s) > 2
        else:
            assert max(after_s - before_s for before_s, after_s in pairwise(ran_at_s)) >= 0.2


_PASS = """
import asyncio
from orchestrator.failpoints.armed import arm, strike
arm({point!r}, {terms!r})
asyncio.run(strike({point!r}))
asyncio.run(strike({point!r}))
print("survived")
"""


def run(terms: str) -> subprocess.Popen[str]:
    code = _PASS.format(point=APPEND, terms=terms)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_an_exit_is_a_kill() -> None:
    process = run("1*off->exit")
    out, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == -signal.SIGKILL
    assert "survived" not in out
    assert "failpoint_strikes" in out + err


def test_a_stop_lasts_until_somebody_sends_sigcont() -> None:
    process = run("1*stop")
    stat = Path(f"/proc/{process.pid}/stat")
    give_up_s = time.monotonic() + WITHIN_S
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        assert process.poll() is None
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 0
    assert "survived" in out
