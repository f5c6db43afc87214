"""The files of the archive: a line is whole or not there, nobody writes another's file, a bad file is left alone."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pytest

from orchestrator.keeping.archive import Archive
from orchestrator.keeping.lines import lines
from orchestrator.saga.model import Failure, SagaId
from orchestrator.sagalog.records import SagaRecord, TransitionRecord

DAY = date(2026, 1, 31)


def archive(folder: Path, day: date = DAY) -> Archive:
    return Archive(folder, "baton-0-r1", lambda: day)


def written(made: Archive, *pieces: bytes) -> None:
    made.begin()
    for piece in pieces:
        made.write(piece)
    made.sync()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_lines_are_on_the_disk_in_a_file_of_the_replica_and_the_day(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    made = archive(folder)
    written(made, b"one\n", b"two", b"\n")
    written(made, b"three\n")
    assert names(folder) == ["baton-0-r1-2026-01-31.jsonl"]
    assert (folder / "baton-0-r1-2026-01-31.jsonl").read_bytes() == b"one\ntwo\nthree\n"


def test_a_new_day_has_a_new_file(tmp_path: Path) -> None:
    days = [DAY, DAY, date(2026, 2, 1)]
    made = Archive(tmp_path, "a", lambda: days.pop(0))
    for line in (b"1\n", b"2\n", b"3\n"):
        written(made, line)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a-2026-01-31.jsonl": b"1\n2\n",
        "a-2026-02-01.jsonl": b"3\n",
    }


@pytest.mark.parametrize("torn", [b'{"saga_id": "cut', b"x" * 200_000])
@pytest.mark.parametrize("whole", [b"", b"one\n", b"one\n" * 50_000])
def test_a_line_that_a_crash_has_cut_short_is_cut_off(tmp_path: Path, whole: bytes, torn: bytes) -> None:
    path = tmp_path / "baton-0-r1-2026-01-31.jsonl"
    path.write_bytes(whole + torn)
    written(archive(tmp_path), b"two\n")
    assert path.read_bytes() == whole + b"two\n"


def test_what_was_abandoned_leaves_no_half_line_behind(tmp_path: Path) -> None:
    made = archive(tmp_path)
    written(made, b"one\n")
    made.begin()
    made.write(b"half a li")
    made.abandon()
    with pytest.raises(OSError, match="is open"):
        made.write(b"ne\n")
    written(made, b"two\n")
    assert (tmp_path / names(tmp_path)[0]).read_bytes() == b"one\ntwo\n"


def test_a_file_that_another_process_writes_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "baton-0-r1-2026-01-31.jsonl"
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b"its own, half a li")
        other.flush()
        written(archive(tmp_path), b"ours\n")
    assert path.read_bytes() == b"its own, half a li"
    assert (tmp_path / "baton-0-r1-2026-01-31.1.jsonl").read_bytes() == b"ours\n"


def test_a_file_whose_sync_failed_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = archive(tmp_path)
    made.begin()
    made.write(b"one\n")

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output"):
            made.sync()
    written(made, b"one\n")
    assert names(tmp_path) == ["baton-0-r1-2026-01-31.1.jsonl", "baton-0-r1-2026-01-31.jsonl"]
    assert (tmp_path / "baton-0-r1-2026-01-31.1.jsonl").read_bytes() == b"one\n"


AT = datetime(2026, 1, 31, tzinfo=UTC)


def saga(number: int) -> SagaRecord:
    failure = Failure("pay", "NOT_FOUND", "no such card")
    input_ = '{"money": 1.10, "big": 123456789012345678901234567890}'
    identity = SagaId(UUID(int=number))
    return SagaRecord(
        identity, "order", 1, "COMPENSATED", None, 2, input_, None, failure, {"a": "b"}, "r", None, None, AT, AT, AT
    )


def row(number: int, sequence: int) -> TransitionRecord:
    return TransitionRecord(
        SagaId(UUID(int=number)), sequence, "pay", 1, "completed", 1, '{"n": 1}', None, 7, AT, "RUNNING"
    )


async def test_a_line_has_a_saga_with_its_history_however_the_pages_fall() -> None:
    rows = [row(1, 1), row(1, 2), row(3, 1), row(4, 1), row(4, 2), row(4, 3)]
    wanted = [(1, [1, 2]), (2, []), (3, [1]), (4, [1, 2, 3]), (5, [])]
    for size in range(1, len(rows) + 1):

        async def pages(size: int = size) -> object:
            for start in range(0, len(rows), size):
                yield rows[start : start + size]

        text = b"".join([piece async for piece in lines([saga(n) for n in range(1, 6)], pages())])  # type: ignore[arg-type]
        assert text.endswith(b"]}\n")
        found = [json.loads(line) for line in text.splitlines()]
        assert [(UUID(s["saga_id"]).int, [t["sequence"] for t in s["history"]]) for s in found] == wanted
        assert b'"big": 123456789012345678901234567890' in text, "numbers are taken over as they stand"
        assert b'"money": 1.10' in text
        assert found[0]["error"] == {"step": "pay", "code": "NOT_FOUND", "message": "no such card"}
        assert found[0]["history"][0]["result"] == {"n": 1}
