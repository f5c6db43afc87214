"""The job of docker-compose.yml that makes the databases' password: once, for its owner alone, as libpq reads it."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "docker" / "make_password.py"


def _make(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-IS", str(SCRIPT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr


def _fields(line: str) -> list[str]:
    """The fields of a line of a pgpass file, by libpq's rules."""
    fields, escaped = [""], False
    for character in line:
        if not escaped and character == "\\":
            escaped = True
        elif not escaped and character == ":":
            fields.append("")
        else:
            fields[-1] += character
            escaped = False
    return fields


def test_a_password_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    assert _make(tmp_path) == (0, "")
    password = (tmp_path / "password").read_text()
    assert len(password) > 32
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _make(tmp_path) == (0, "")
    assert (tmp_path / "password").read_text() == password
    assert {path.name for path in tmp_path.iterdir()} == {"password", "pgpass"}


def test_two_passwords_differ(tmp_path: Path) -> None:
    made = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        _make(tmp_path / name)
        made.add((tmp_path / name / "password").read_text())
    assert len(made) == 2


@pytest.mark.parametrize("given", ["s3cret", "with:colon\\and 'all\"$x", "ends in a line\n"])
def test_a_password_that_is_given_is_kept_and_libpq_reads_it(tmp_path: Path, given: str) -> None:
    (tmp_path / "password").write_text(given)
    assert _make(tmp_path) == (0, "")
    line = (tmp_path / "pgpass").read_text()
    assert line.endswith("\n")
    assert _fields(line[:-1]) == ["*", "*", "*", "*", given.removesuffix("\n")]


def test_what_a_crash_left_half_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "password.new").write_text("half a passw")
    assert _make(tmp_path) == (0, "")
    assert "half" not in (tmp_path / "password").read_text()


@pytest.mark.parametrize("given", ["", "two\nlines"])
def test_what_is_no_password_is_refused(tmp_path: Path, given: str) -> None:
    (tmp_path / "password").write_text(given)
    status, complaint = _make(tmp_path)
    assert status == 1
    assert "must hold a password in one line" in complaint


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    status, complaint = _make(tmp_path / "absent")
    assert status == 1
    assert str(tmp_path / "absent") in complaint
