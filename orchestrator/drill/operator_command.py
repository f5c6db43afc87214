"""An operator's own command, such as `docker kill {replica}`: filled in, run by the shell, with a deadline."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from orchestrator.errors import BatonError

DEADLINE_S = 60.0
_OUTPUT_MAX = 4000


class CommandFailed(BatonError):
    """An operator's command has failed, or took too long. Its output is quoted: mend the command, and drill again."""


@dataclass(frozen=True, slots=True)
class OperatorCommand:
    """A command with placeholders in braces, which are replaced by values that the shell takes as one word each."""

    text: str
    deadline_s: float = DEADLINE_S

    def filled(self, values: Mapping[str, str]) -> str:
        """The command for the shell. Other braces than those of the names in `values` are left as they are."""
        text = self.text
        for name, value in values.items():
            text = text.replace("{" + name + "}", shlex.quote(value))
        return text

    async def run(self, values: Mapping[str, str]) -> None:
        """Run it to its end. Raises CommandFailed, quoting the end of what it printed."""
        text = self.filled(values)
        # A file, no pipe: what the command leaves running in the background may hold its output open for ever.
        with tempfile.TemporaryFile() as output:
            process = await asyncio.create_subprocess_shell(
                text, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
            try:
                async with asyncio.timeout(self.deadline_s):
                    status = await process.wait()
            except TimeoutError:
                raise CommandFailed(f"`{text}` has not ended after {self.deadline_s:g} s: {_tail(output)}") from None
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
            if status != 0:
                raise CommandFailed(f"`{text}` ended with status {status}: {_tail(output)}")


def _tail(output: IO[bytes]) -> str:
    descriptor = output.fileno()
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, _OUTPUT_MAX, max(0, size - _OUTPUT_MAX)).decode(errors="replace").strip()
    return text or "it printed nothing"
