"""An event loop on virtual time: instead of waiting for a timer it moves the clock on, so hours pass at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from orchestrator.errors import InvariantError

T = TypeVar("T")

BEGINNING_S = 1000.0


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for a timer, moves the clock on to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = BEGINNING_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise InvariantError("everything waits and no timer is set")
        if not ready and timeout is not None:
            self.now_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """The virtual time in seconds."""
        return self._jumping.now_s


def virtually(scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a scenario to its end on virtual time; what it returns. Raises InvariantError when it waits for nothing."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario())


def now_s() -> float:
    """The virtual time in seconds, in a coroutine of the scenario."""
    return asyncio.get_running_loop().time()
