"""The core loop: what a saga asks for is done, what came of it is logged, until it asks for nothing more.

A saga with one step at a time is a loop without a task of its own for each call. Where steps run side by side, each
call is a task, and whatever comes first is decided and logged first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.driving.calls import Caller, Effort, Surroundings
from orchestrator.driving.children import Children
from orchestrator.driving.destinations import Route, addressed
from orchestrator.driving.port import Participants
from orchestrator.driving.stopwatch import Stopwatch
from orchestrator.errors import InvariantError
from orchestrator.saga.commands import Ask, Begin, Call, Command, Intend, Outcome, Ready, Wait
from orchestrator.saga.events import Event
from orchestrator.saga.machine import Moment, decide, next_commands
from orchestrator.saga.model import Saga
from orchestrator.saga.pausing import held_by, let_go
from orchestrator.saga.progress import FOREVER, turnable
from orchestrator.saga.signals import Signal, heed
from orchestrator.sagalog.port import Heard, TermLog
from orchestrator.telemetry import Metrics

# A saga that has nothing to do for longer is put to sleep: it leaves this process, and comes back by its row.
SLEEP_S = 2.0


@dataclass(slots=True)
class Driven:
    """A saga that is being driven, as it was last logged, and what others may tell its driver meanwhile."""

    saga: Saga
    cancel_reason: str | None = None
    nudged: asyncio.Event = field(default_factory=asyncio.Event)
    signals: deque[Signal] = field(default_factory=deque)
    # The numbers of all signals that were told, heeded or not: the log may show them as unheard for a while.
    told: set[int] = field(default_factory=set)
    # By the numbers of the moves among the signals.
    ways: dict[int, Route] = field(default_factory=dict)

    def cancel(self, reason: str) -> None:
        """Have the saga compensated, at once if it waits, else when the call in flight has ended."""
        if self.cancel_reason is None:
            self.cancel_reason = reason
            self.nudged.set()

    def tell(self, signal: Signal, way: Route | None = None) -> None:
        """Have the saga heed a signal as soon as it can be, a move with its way; told again, it is ignored."""
        if signal.id not in self.told:
            self.told.add(signal.id)
            if way is not None:
                self.ways[signal.id] = way
            self.signals.append(signal)
            self.nudged.set()

    def look_again(self) -> None:
        """Have the driver go by the pauses that are in force now."""
        self.nudged.set()


class Driver:
    """Drives sagas of one shard under one epoch."""

    def __init__(
        self,
        shard: int,
        log: TermLog,
        participants: Participants,
        surroundings: Surroundings,
        metrics: Metrics,
        children: Children | None = None,
    ) -> None:
        self._epoch = log.epoch
        self._log = log
        self._surroundings = surroundings
        self._children = children
        self._caller = Caller(shard, log, participants, surroundings, metrics)
        self._stopwatch = Stopwatch(metrics)

    async def drive(self, driven: Driven) -> Saga:
        """Drive the saga to its end, or until it has nothing to do for long, and return it.

        Raises Fenced when a later epoch has taken over, CorruptLog when Postgres refuses a row of this saga.
        """
        try:
            return await self._drive(driven)
        finally:
            self._stopwatch.forget(driven.saga)

    async def _drive(self, driven: Driven) -> Saga:
        while True:
            await self._heed(driven)
            commands = next_commands(driven.saga, self._epoch)
            if not commands:
                return driven.saga
            efforts = [command for command in commands if isinstance(command, Call | Ask | Begin)]
            if isinstance(commands[0], Intend):
                await self._go_on(driven, Ready(), 0)
            elif len(efforts) == 1 and _alone(commands):
                outcome = await self._perform(driven.saga, efforts[0])
                # What was said meanwhile goes first: a saga that is to pause does not begin its next step.
                await self._heed(driven)
                await self._came(driven, outcome, efforts[0].position)
            elif efforts:
                await self._side_by_side(driven)
            elif not await self._wait(driven, [command for command in commands if isinstance(command, Wait)]):
                return driven.saga

    async def _go_on(self, driven: Driven, outcome: Outcome, position: int) -> None:
        """Decide what follows from an outcome, and log it."""
        saga, events = decide(driven.saga, outcome, self._moment(), driven.cancel_reason, position)
        if events:
            await self._write(driven, saga, events)

    async def _came(self, driven: Driven, outcome: Outcome, position: int) -> None:
        """Go on with the outcome of a call, unless the saga waits for it no longer."""
        if driven.saga.at(position) is not None and not driven.saga.state.terminal:
            await self._go_on(driven, outcome, position)

    async def _write(self, driven: Driven, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> None:
        await self._log.append(saga, events, heard)
        driven.saga = saga
        if events:
            self._stopwatch.logged(saga, events)
            self._surroundings.written(saga, events)

    async def _heed(self, driven: Driven) -> None:
        """Heed every signal that can be heeded now, and go on with what no pause holds any more."""
        driven.nudged.clear()
        for _ in range(len(driven.signals)):
            signal = driven.signals.popleft()
            named = addressed(signal, driven.ways.get(signal.id), driven.saga)
            heeded = heed(driven.saga, named, self._moment(), driven.cancel_reason)
            if heeded is None:
                driven.signals.append(signal)
            else:
                await self._write(driven, heeded.saga, heeded.events, (Heard(signal.id, heeded.refusal),))
        for position in let_go(driven.saga, self._surroundings.pauses()):
            await self._came(driven, Ready(), position)

    async def _wait(self, driven: Driven, waits: list[Wait]) -> bool:
        """Wait until a time has come, or somebody says something. False when the saga may sleep instead."""
        if self._turns_back(driven):
            await self._go_on(driven, Ready(), 0)
            return True
        wait = min(waits, key=_time)
        left_s = self._left_s(wait)
        if left_s is None or left_s > SLEEP_S:
            return driven.nudged.is_set()
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                await driven.nudged.wait()
        except TimeoutError:
            await self._go_on(driven, Ready(), wait.position)
        return True

    async def _side_by_side(self, driven: Driven) -> None:
        """Perform several calls at the same time, until none is under way or the saga has ended."""
        running: dict[int, asyncio.Task[Outcome]] = {}
        try:
            while True:
                commands = next_commands(driven.saga, self._epoch)
                if commands and isinstance(commands[0], Intend):
                    await self._go_on(driven, Ready(), 0)
                    continue
                for effort in commands:
                    if isinstance(effort, Call | Ask | Begin) and effort.position not in running:
                        running[effort.position] = self._begin(driven.saga, effort)
                if not running or not commands:
                    return
                await self._first_of(driven, running, [c for c in commands if isinstance(c, Wait)])
        finally:
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    def _begin(self, saga: Saga, effort: Effort) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self._perform(saga, effort))

    async def _perform(self, saga: Saga, effort: Effort) -> Outcome:
        if isinstance(effort, Begin):
            if self._children is None:
                raise InvariantError(f"saga {saga.id} runs child sagas, and nobody here can begin any")
            pause = self._surroundings.pauses().holding(saga.definition.name)
            if pause is not None:
                return held_by(pause, self._surroundings.chance())
            return await self._children.perform(saga, effort)
        return await self._caller.perform(saga, effort)

    async def _first_of(self, driven: Driven, running: dict[int, asyncio.Task[Outcome]], waits: list[Wait]) -> None:
        """Go on with whatever comes first: an outcome, a signal or a wish to turn back, or a time."""
        wait = min(waits, key=_time, default=None)
        left_s = None if wait is None else self._left_s(wait)
        nudged = asyncio.create_task(driven.nudged.wait())
        try:
            timeout_s = None if left_s is None else max(0.0, left_s)
            done, _ = await asyncio.wait(
                {*running.values(), nudged}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            nudged.cancel()
        # What was said meanwhile goes first: a saga that is to pause does not begin its next step.
        if driven.signals:
            await self._heed(driven)
        for position in [position for position, task in running.items() if task in done]:
            await self._came(driven, running.pop(position).result(), position)
        if driven.signals or nudged in done:
            # What had to wait for the end of a call is heeded now, although nobody says it again.
            await self._heed(driven)
            if self._turns_back(driven):
                await self._go_on(driven, Ready(), 0)
        if not done and wait is not None:
            await self._go_on(driven, Ready(), wait.position)

    def _turns_back(self, driven: Driven) -> bool:
        return driven.cancel_reason is not None and turnable(driven.saga)

    def _left_s(self, wait: Wait) -> float | None:
        """How long there is to wait, in seconds by the clock of the store; None for ever."""
        return None if wait.until is None else (wait.until - self._log.now()).total_seconds()

    def _moment(self) -> Moment:
        return Moment(self._epoch, self._log.now(), self._surroundings.chance())


def _alone(commands: Sequence[Command]) -> bool:
    """Whether nothing but the saga's deadline could come before the outcome of the one call."""
    return all(not isinstance(command, Wait) or command.position == 0 for command in commands)


def _time(wait: Wait) -> datetime:
    return wait.until or FOREVER
