"""The code of the previous release, out of the history of this one, for tests that run both side by side."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

# The release before this one. It reads level 1 of the saga log; its last migration is number 3.
PREVIOUS = "7d3c1099e3c12a58208abd9f075a247f0c1d437b"
_ROOT = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def _git(*arguments: str) -> bytes:
    try:
        answer = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"").decode().strip() or str(error)
        pytest.skip(f"the previous release, commit {PREVIOUS}, is not in the history of this clone: {said}")
    return answer.stdout


def unpack(folder: Path) -> Path:
    """Unpack the previous release below `folder`, for PYTHONPATH. Skips the test where a clone does not have it."""
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", PREVIOUS))) as archive:
        archive.extractall(folder, filter="data")
    return folder


def statements(file_name: str) -> dict[str, bytes]:
    """The statements of one of its .sql files, by name. Skips the test where a clone does not have it."""
    text = _git("show", f"{PREVIOUS}:orchestrator/sagalog/{file_name}").decode()
    _, *parts = _NAME.split(text)
    return {name: body.strip().rstrip(";").encode() for name, body in zip(parts[::2], parts[1::2], strict=True)}
