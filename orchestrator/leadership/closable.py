"""A thread that runs beside the main loop until it is closed; that it ended in any other way can be seen."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class ClosableThread(ABC):
    """What vouches for a replica from a thread of its own: `_run` goes on until `_closing` is set."""

    def __init__(self, name: str) -> None:
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def _run(self) -> None: ...

    def start(self) -> None:
        """Begin; `close` ends it."""
        self._thread.start()

    @property
    def broken(self) -> bool:
        """Whether the thread was started and has ended, though nobody closed it: a defect that only a restart mends."""
        return self._thread.ident is not None and not self._thread.is_alive() and not self._closing.is_set()

    def close(self) -> None:
        """End the thread, and wait until it has ended."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
