"""The lock on the fence's row, as Postgres keeps it: writers share it, a raise has it alone, and they queue in order.

Who waits too long for it alone ends the backends of those who share it (R11): their statements are undone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from orchestrator.simulation.loop import SimulationLoop

# As `fence_wait_max_s`.
WAIT_MAX_S = 0.2


class Statement:
    """A statement that holds or wants the lock. `undone` says that its backend was ended."""

    __slots__ = ("exclusive", "held", "run", "undone")

    def __init__(self, exclusive: bool, run: Callable[[], None]) -> None:
        self.exclusive = exclusive
        self.run = run
        self.held = False
        self.undone = False


class FenceLock:
    """The lock. `acquire` runs the statement when it has the lock; `release` ends it."""

    def __init__(self, loop: SimulationLoop, undo: Callable[[int], None]) -> None:
        self._loop = loop
        self._undo = undo
        self._holders: dict[Statement, None] = {}
        self._queue: deque[Statement] = deque()

    def acquire(self, statement: Statement) -> None:
        """Run the statement as soon as it may have the lock."""
        self._queue.append(statement)
        self._grant()
        if statement.exclusive and not statement.held:
            self._loop.schedule(self._loop.world, WAIT_MAX_S, self._lose_patience, statement)

    def release(self, statement: Statement) -> None:
        """The statement has ended."""
        if self._holders.pop(statement, self) is None:
            self._grant()

    def reset(self) -> None:
        """The server has stopped: every statement is undone."""
        for statement in (*self._holders, *self._queue):
            statement.undone = True
        self._holders.clear()
        self._queue.clear()

    def _grant(self) -> None:
        while self._queue:
            statement = self._queue[0]
            alone = not self._holders
            shared = all(not holder.exclusive for holder in self._holders)
            if not (alone if statement.exclusive else shared):
                return
            self._queue.popleft()
            statement.held = True
            self._holders[statement] = None
            statement.run()

    def _lose_patience(self, waiting: Statement) -> None:
        if waiting.held or waiting.undone:
            return
        for holder in self._holders:
            holder.undone = True
        self._undo(len(self._holders))
        self._holders.clear()
        self._grant()
