"""The commands of docs/operations.md are those of the stories, which are executed on a real cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.scenarios.story import Command, read, stories

_GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"
_TOLD = {part.text for story in stories() for part in story.parts if isinstance(part, Command)}


@pytest.mark.parametrize("command", [part.text for part in read(_GUIDE).parts if isinstance(part, Command)])
def test_a_command_of_the_guide_is_told_in_a_story(command: str) -> None:
    assert command in _TOLD


def test_the_guide_has_an_example_of_each_order() -> None:
    text = _GUIDE.read_text(encoding="utf-8")
    table = set(re.findall(r"^\| `baton saga ([\w-]+)", text, re.MULTILINE))
    shown = set(re.findall(r"^    \$ baton saga ([\w-]+)", text, re.MULTILINE))
    assert len(table) > 8
    assert table <= shown
