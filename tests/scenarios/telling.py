"""How a story is told, part by part; and at the end, every sentence that a story may say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from . import prompt
from .story import KEEPS, Command, File, Part, Sentence, Story
from .world import World

_STARTED = re.compile(r'^saga +([0-9a-f-]{36})$|"saga_id":"([0-9a-f-]{36})"', re.MULTILINE)


async def tell(story: Story, world: World) -> None:
    """A story from its beginning to its end. Raises AssertionError with the line at which it goes another way."""
    try:
        for part in story.parts:
            await play(part, world)
    finally:
        await world.tidy_up()


async def play(part: Part, world: World) -> None:
    """Execute one part of a story."""
    match part:
        case File():
            await asyncio.to_thread(Path(part.name).write_text, part.text, encoding="utf-8")
        case Command():
            output = await prompt.run(part, world.stage, world.sagas)
            if part.request_id is not None and (found := _STARTED.search(output)) is not None:
                world.sagas[part.request_id] = found[1] or found[2]
        case Sentence():
            await _happen(part, world)


async def _happen(sentence: Sentence, world: World) -> None:
    for pattern, act in _SENTENCES:
        if (words := re.fullmatch(pattern, sentence.text)) is not None:
            try:
                await act(world, *words.groups())
            except (AssertionError, grpc.aio.AioRpcError) as error:
                raise AssertionError(f"line {sentence.line}: {sentence.text}\n{error}") from error
            return
    raise AssertionError(f"line {sentence.line}: nobody knows how: {sentence.text}")


_OFTEN = r"(?:, (once|twice|\d+ times))?"
KILL = "The leader is killed."
AUDIT = "The audit finds no effect twice."
_SENTENCES: tuple[tuple[str, Callable[..., Awaitable[None]]], ...] = (
    (re.escape(KILL), World.kill_leader),
    (re.escape(AUDIT), World.audited),
    (rf"(\w+) answers (\w+) of ([\w-]+) with ([A-Z_]+)( although it was done)?{_OFTEN}\.", World.answer),
    (rf"(\w+) takes ([\d.]+) s for (\w+) of ([\w-]+){_OFTEN}\.", World.take),
    (r"(\w+) works as ever again\.", World.mend),
    (r"(\w+) goes away\.", World.away),
    (r"(\w+) comes back\.", World.back),
    (rf"In ([\w-]+), (\w+) is (\w+){_OFTEN}\.", World.comes_to),
    (r"([\w-]+) has the child ([\w-]+) in ([\w-]+)\.", World.child),
    (r"([\w-]+) ends\.", World.ends),
    (r"The clerk has accepted (\w+) of ([\w-]+)\.", World.accepted),
    (r"The clerk does (\w+) of ([\w-]+)\.", World.stamp),
    (r"The clerk declines (\w+) of ([\w-]+)\.", World.decline),
    (r"The clerk says that he is at (\w+) of ([\w-]+)\.", World.heartbeat),
    (r"The clerk is too late for (\w+) of ([\w-]+)\.", World.too_late),
    (r"The starts of ([\w-]+) are held\.", World.held),
    (r"The notifications are at work\.", World.at_work),
    (r"The notifications go home\.", World.at_home),
    (r"The customer of ([\w-]+) is told once: ([A-Z]+)\.", World.told),
    (re.escape(KEEPS), World.kept),
    (r"([\w-]+) leaves the log\.", World.leaves),
    (r"(\w+) forgets ([\w-]+)\.", World.forgotten),
    (r"The archive has ([\w-]+), ([A-Z]+)\.", World.archived),
    (r"The shop by events opens\.", World.open_shop),
    (r"There, ([\w-]+) is ordered(?:, (\d+) pieces)?\.", World.order_there),
    (r"There, ([\w-]+) has gone ([a-z., ]+)\.", World.went_there),
    (r"There, (\w+) is killed in the middle of ([\w-]+)\.", World.killed_there),
    (r"There, (\w+) comes back\.", World.back_there),
    (r"There, everything is delivered once more\.", World.again_there),
    (r"The broker (goes away|comes back)\.", World.broker),
    (r"The broker has each event of ([\w-]+) once, in its order\.", World.published),
    (r"Bob charges ([\d.]+) for ([\w-]+) by hand, under the key of its saga\.", World.charge_by_hand),
    (r"The calls to the scribe about ([\w -]+) are held up\.", World.held_up),
    (r"The calls to the scribe about ([\w-]+) arrive, and hear ([A-Z_, ]+)\.", World.arrives),
    (r"A call to the scribe about ([\w-]+) is on its way\.", World.on_its_way),
    (r"The newcomer leaves (no )?tombstones\.", World.tombstones),
    (r"The leader's breaker for (\w+) is (open|closed)\.", World.breaker),
)
