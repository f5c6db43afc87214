"""The live picture of a drill: what it shows on a terminal, while the log is away, and where there is no terminal."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.audit.gauge import Picture
from orchestrator.audit.screen import ReplicaSeen, Role, Screen, sparkline
from orchestrator.drill.live import LivePicture, Scene
from orchestrator.drill.load import Load
from orchestrator.drill.operator_command import CommandFailed, OperatorCommand
from orchestrator.drill.progress import Progress
from orchestrator.embedded.processes import ProcessFailed
from tests.unit.test_orders_feed import FakeStarter

REPLICAS = (ReplicaSeen("replica-1", "77", Role.FROZEN), ReplicaSeen("replica-2", "78", Role.LEADER))


def shown(scenes: list[Scene], progress: Progress, *, terminal: bool = True) -> str:
    printed = io.StringIO()
    screen = Screen(Console(file=printed, force_terminal=terminal, width=120, height=60), dated=False)
    live = LivePicture(screen)
    with screen.showing():
        screen.tell("kill-leader 1 of 20: gap 31 ms")
        for scene in scenes:
            live.draw(scene, progress, Load(FakeStarter()))
    return printed.getvalue()


def test_the_picture_says_what_is_under_way_and_who_leads() -> None:
    progress = Progress("5 freeze-leader", 3, 20)
    progress.measures.append("gap 744 ms")
    text = shown([Scene(REPLICAS, Picture({"COMPLETED": 41, "RUNNING": 2}, 9, "replica-2"), 41)], progress)
    for said in ("5 freeze-leader 3 of 20", "replica-2 leads, epoch 9", "frozen", "41", "gap 744 ms", "gap 31 ms"):
        assert said in text


def test_while_the_log_is_away_the_picture_keeps_what_it_knew_and_says_so() -> None:
    known = Scene(REPLICAS, Picture({"COMPLETED": 41}, 9, "replica-2"), 41)
    text = shown([known, Scene(REPLICAS, None)], Progress("17 restart-postgres-fast", 1, 7))
    before, _, after = text.partition("the saga log does not answer")
    assert "epoch 9" in before
    assert "41" in after


def test_where_there_is_no_terminal_there_are_lines_and_nothing_else() -> None:
    scene = Scene(REPLICAS, Picture({"COMPLETED": 41}, 9, "replica-2"), 41)
    assert shown([scene], Progress("2 kill-leader", 1, 20), terminal=False) == "kill-leader 1 of 20: gap 31 ms\n"


async def test_what_fails_beneath_the_picture_is_raised_as_it_is() -> None:
    looks = 0

    async def look() -> Scene:
        nonlocal looks
        looks += 1
        return Scene(REPLICAS, None)

    screen = Screen(Console(file=io.StringIO(), force_terminal=True))
    with screen.showing():
        live = LivePicture(screen)
        with pytest.raises(ProcessFailed):
            async with live.following(look, Progress(), Load(FakeStarter())):
                raise ProcessFailed("it ended")


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert sparkline([0, 4, 8]) == " ▄█"
    assert sparkline([0, 0]) == "  "


async def test_a_command_is_filled_with_one_word_for_each_name() -> None:
    command = OperatorCommand("docker kill {replica} --format '{{.Id}}' {pid}")
    assert command.filled({"replica": "a b; rm", "pid": "7"}) == "docker kill 'a b; rm' --format '{{.Id}}' 7"


async def test_a_command_that_hangs_is_ended_and_one_that_leaves_something_running_is_not_waited_for(
    tmp_path: Path,
) -> None:
    with pytest.raises(CommandFailed, match=r"has not ended after 1 s: begun"):
        await OperatorCommand("echo begun; sleep 60", deadline_s=1.0).run({})
    left = tmp_path / "left"
    await OperatorCommand("sleep 60 & echo $! > {left}", deadline_s=30.0).run({"left": str(left)})
    os.kill(int(left.read_text()), signal.SIGKILL)
