"""An event loop for simulated processes: virtual time, one order of events, and processes that can be frozen.

Every callback belongs to a process (`Process`): the one whose task it wakes, or else the one that scheduled it. What
belongs to a frozen process is held back until it wakes, timers included, as with SIGSTOP; the rest of the world goes
on. There is no selector and no thread, so a run is a function of what the callbacks do, and of nothing else.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple, cast

from orchestrator.errors import InvariantError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

BEGINNING_S = 1000.0

# A run that handles so many callbacks is going round in circles.
CALLBACKS_MAX = 5_000_000


class Process:
    """What can be frozen and woken as one. `dead` says that nothing it still does may be seen by anybody."""

    __slots__ = ("dead", "frozen", "held", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False
        self.held: list[Handle] = []


_PROCESS: ContextVar[Process] = ContextVar("simulated-process")


class Handle:
    """A callback that waits for its turn."""

    __slots__ = ("args", "callback", "context", "off", "process")

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None, process: Process
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.process = process
        self.off = False

    def cancel(self) -> None:
        """Never run it."""
        self.off = True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.off


class NumberedTask(asyncio.Task[T]):
    """A task that hashes by its number: asyncio keeps tasks in sets, whose order must not depend on addresses."""

    def __init__(self, coro: Coroutine[Any, Any, T], number: int, **keywords: Any) -> None:
        self._number = number
        super().__init__(coro, **keywords)

    def __hash__(self) -> int:
        return self._number


class SimulationLoop(asyncio.AbstractEventLoop):
    """Runs simulated processes on virtual time. An error in a plain callback ends the run; `strays` has what else."""

    def __init__(self) -> None:
        self.world = Process("world")
        self.strays: list[str] = []
        self._now_s = BEGINNING_S
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._order = 0
        self._tasks = 0
        self._handled = 0
        self._present = self.world

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` in the world's own process to its end. Raises InvariantError when everything waits for nothing."""
        events._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._run_ready()
                if not task.done():
                    self._advance()
            self._run_ready()
            return task.result()
        finally:
            events._set_running_loop(None)

    def _run_ready(self) -> None:
        ready = self._ready
        while ready:
            handle = ready.popleft()
            if handle.off:
                continue
            process = handle.process
            if process.frozen:
                process.held.append(handle)
                continue
            self._present = process
            self._handled += 1
            if handle.context is None:
                handle.callback(*handle.args)
            else:
                handle.context.run(handle.callback, *handle.args)
        self._present = self.world
        if self._handled > CALLBACKS_MAX:
            raise InvariantError(f"{CALLBACKS_MAX} callbacks, and no end: the simulation goes round in circles")

    def _advance(self) -> None:
        timers = self._timers
        while timers:
            when_s, _, handle = heappop(timers)
            if not handle.off:
                self._now_s = max(self._now_s, when_s)
                self._ready.append(handle)
                return
        raise InvariantError("everything waits and no timer is set")

    # Processes.

    def freeze(self, process: Process) -> None:
        """Let nothing of this process run any more."""
        process.frozen = True

    def wake(self, process: Process) -> None:
        """Let it run again: first whatever came due meanwhile, in order."""
        process.frozen = False
        held, process.held = process.held, []
        self._ready.extend(held)

    def spawn(self, process: Process, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of this process; so are all that it makes."""
        context = copy_context()
        context.run(_PROCESS.set, process)
        return self.create_task(coro, context=context)

    def schedule(self, process: Process, delay_s: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Call back in this process after a delay in seconds."""
        handle = Handle(callback, args, None, process)
        self._order += 1
        heappush(self._timers, (self._now_s + delay_s, self._order, handle))
        return handle

    # What asyncio asks of a loop.

    def time(self) -> float:
        """The virtual time in seconds."""
        return self._now_s

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        """Run a callback in the process of its context, or in the one that runs now."""
        process = self._present if context is None else context.get(_PROCESS, self.world)
        handle = Handle(callback, args, context, process)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Any:
        """Run a callback after a delay in seconds."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Any:
        """Run a callback at a time."""
        process = self._present if context is None else context.get(_PROCESS, self.world)
        handle = Handle(callback, args, context, process)
        self._order += 1
        heappush(self._timers, (when, self._order, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """A task of the process that runs now, or of that of its context."""
        self._tasks += 1
        number = self._tasks
        return NumberedTask(cast(Coroutine[Any, Any, T], coro), number, loop=self, name=str(number), context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what asyncio complains about, such as an error of a task that nobody asked for."""
        self.strays.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whether this loop runs now."""
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        """Never: it holds nothing that needs closing."""
        return False


def new_loop() -> SimulationLoop:
    """A loop at the beginning of its time."""
    # What a loop can do beside callbacks, timers and tasks (sockets, signals, threads) this one refuses on purpose.
    return SimulationLoop()  # type: ignore[abstract]
