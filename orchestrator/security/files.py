"""Files that may be replaced while the process runs: read again when they have changed, kept as they were if broken.

Nobody watches: whoever needs what is in them asks, and at most once in a while that costs a look at their times.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from orchestrator.errors import BatonError

LOOK_INTERVAL_S = 1.0

T = TypeVar("T")
# Device, inode, time of change and size of each file: a link that is turned to another file is another inode.
_Stamp = tuple[tuple[int, int, int, int], ...]

log = structlog.get_logger()


class BadFile(BatonError):
    """A file of certificates, keys, callers or tokens cannot be used; the message names it. Mend the file."""


class Reloaded(Generic[T]):
    """What `parse` makes of the contents of `paths`; `generation` grows each time they are read anew. Thread-safe.

    Raises BadFile when they cannot be read the first time. Later, a broken or a half-replaced set of files is told
    once in the log, and what was there before stays in force.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        parse: Callable[[Sequence[bytes]], T],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = tuple(paths)
        self._parse = parse
        self._clock = clock
        self._lock = threading.Lock()
        self._tried = self._stamp()
        self._value = self._read()
        self._generation = 1
        self._look_at_s = clock() + LOOK_INTERVAL_S

    @property
    def generation(self) -> int:
        """Which version of the files is in force now."""
        self._look()
        return self._generation

    def current(self) -> T:
        """What the files say."""
        self._look()
        return self._value

    def _look(self) -> None:
        if self._clock() < self._look_at_s:
            return
        with self._lock:
            if self._clock() < self._look_at_s:
                return
            self._look_at_s = self._clock() + LOOK_INTERVAL_S
            try:
                stamp = self._stamp()
                if stamp == self._tried:
                    return
                self._tried = stamp
                value = self._read()
                if self._stamp() != stamp:
                    # They are being replaced just now: the next look has all of them.
                    self._tried = ()
                    return
            except BadFile as error:
                log.error("file_refused", error=str(error), reaction="what was there before stays in force")
                return
            self._value = value
            self._generation += 1
            log.info("file_read_again", files=[str(path) for path in self._paths])

    def _stamp(self) -> _Stamp:
        found = []
        for path in self._paths:
            try:
                status = os.stat(path)
            except OSError:
                found.append((0, 0, 0, 0))
            else:
                found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)

    def _read(self) -> T:
        contents = []
        for path in self._paths:
            try:
                contents.append(path.read_bytes())
            except OSError as error:
                raise BadFile(f"{path}: {error.strerror}") from None
        try:
            return self._parse(contents)
        except ValueError as error:
            raise BadFile(f"{', '.join(map(str, self._paths))}: {error}") from None
