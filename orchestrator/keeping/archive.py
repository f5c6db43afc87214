"""The archive of removed sagas: JSON lines in files of this replica's own, one saga with its history a line.

Nothing is removed from the log before its line is on the disk, so a crash between leaves a saga in both places, and
later in the archive twice: never in none. A file is named after the replica and the day (UTC). A line that a crash has
cut short belongs to a saga that is still in the log: it is cut off when the file is opened again. All calls block: make
them in a thread.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

_TAIL_BYTES = 65_536


def _today() -> date:
    return datetime.now(UTC).date()


class Archive:
    """Files in `folder` whose names begin with `name`. Every method raises OSError; then nothing new is on the disk."""

    def __init__(self, folder: Path, name: str, today: Callable[[], date] = _today) -> None:
        self._folder = folder
        self._name = name
        self._today = today
        self._day: date | None = None
        self._file: BinaryIO | None = None
        # A file that failed to be written is never written again: what it holds of what it was given, nobody knows.
        self._spoiled: set[Path] = set()

    def write(self, data: bytes) -> None:
        """Write whole lines, or the next part of one."""
        self._of_today().write(data)

    def sync(self) -> None:
        """Return when all that was written is on the disk."""
        file = self._of_today()
        try:
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            self._spoiled.add(Path(file.name))
            self.abandon()
            raise

    def abandon(self) -> None:
        """Give up what was written since the last `sync`: the file is mended when it is opened again."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                self._spoiled.add(Path(file.name))

    def begin(self) -> None:
        """Open the file of today, if it is not open: lines written from now on are in it until the next `begin`."""
        day = self._today()
        if self._file is not None and self._day == day:
            return
        self.abandon()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._day, self._file = day, self._open(day)

    def _of_today(self) -> BinaryIO:
        if self._file is None:
            raise OSError(f"no file of the archive in {self._folder} is open")
        return self._file

    def _open(self, day: date) -> BinaryIO:
        """The first file of the day that nobody else writes, not even a process that should have ended."""
        number = 0
        while True:
            suffix = f".{number}" if number else ""
            path = self._folder / f"{self._name}-{day.isoformat()}{suffix}.jsonl"
            number += 1
            if path in self._spoiled:
                continue
            file = path.open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            try:
                _mend(file)
                _sync_folder(self._folder)
            except BaseException:
                file.close()
                raise
            return file


def _mend(file: BinaryIO) -> None:
    """Cut a last line off that has no end."""
    size = end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        file.truncate(end)
        os.fsync(file.fileno())
    file.seek(0, os.SEEK_END)


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
