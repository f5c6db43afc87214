"""A story: prose, definitions, commands with what they print, and what happens in the world meanwhile.

In a Markdown page of tests/scenarios, three kinds of lines are executed, in their order; all else is for the reader:

    ```yaml ... ```       a definition: it becomes the file NAME.yaml, by its `name`
        $ baton ...       a command (four blanks before it; `\\` at its end goes on), and below it, as far indented,
                          what it prints; `...` stands for anything in a line, or alone for any number of lines
        $ psql ...        the same, at the server of the participants' databases
    > A sentence.         what the world does, or what is waited for: the sentences stand in telling.py
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent

# Said by a story of which the sagas leave the log.
KEPT_S = 3
KEEPS = f"Sagas are kept for {KEPT_S} s after their end."
_PROGRAMS = ("baton", "psql")
_INDENT = "    "
_FENCE = "```"
_ANYTHING = "..."
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_BROKER = re.compile(r"\bbroker\b|\bby events\b")
_SAGA = re.compile(r"\$([a-z][\w-]*)")


@dataclass(frozen=True, slots=True)
class File:
    """A definition that is written down."""

    line: int
    text: str

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{yaml.safe_load(re.sub(r'[$][{][^}]*[}]', 'x', self.text))['name']}.yaml"


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and what it is to print."""

    line: int
    text: str
    output: tuple[str, ...]

    @property
    def program(self) -> str:
        """Whose command it is."""
        program = shlex.split(self.text)[0]
        assert program in _PROGRAMS, f"line {self.line}: a command of {' or '.join(_PROGRAMS)} is expected"
        return program

    @property
    def request_id(self) -> str | None:
        """That of the saga which it starts, if it does."""
        words = shlex.split(self.text)
        if words[:3] != ["baton", "saga", "start"] or "--request-id" not in words:
            return None
        return words[words.index("--request-id") + 1]

    def arguments(self, sagas: Mapping[str, str], variables: Mapping[str, str]) -> list[str]:
        """The arguments behind the program.

        `$name` is the id of the saga that was started under this request id, `${NAME}` a variable of the environment.
        """
        words = [_VARIABLE.sub(lambda name: variables[name[1]], word) for word in shlex.split(self.text)]
        return [_SAGA.sub(lambda name: sagas[name[1]], word) for word in words[1:]]

    def prints(self, output: str) -> bool:
        """Whether it has printed what the story says; the width of blanks does not count."""
        printed = "".join(f"{_narrow(line)}\n" for line in output.splitlines() if line.strip())
        return re.fullmatch("".join(map(_pattern, self.output)), printed) is not None


@dataclass(frozen=True, slots=True)
class Sentence:
    """Something that happens beside the commands."""

    line: int
    text: str


Part = File | Command | Sentence


@dataclass(frozen=True, slots=True)
class Story:
    """One page."""

    path: Path
    parts: tuple[Part, ...]

    @property
    def keeps_for_ever(self) -> bool:
        """Whether its sagas stay in the log: it is told where all the others are."""
        return not any(isinstance(part, Sentence) and part.text == KEEPS for part in self.parts)

    @property
    def needs_broker(self) -> bool:
        """Whether it cannot be told where there is no broker."""
        return any(isinstance(part, Sentence) and _BROKER.search(part.text) for part in self.parts)


def stories() -> tuple[Story, ...]:
    """All stories, by name."""
    return tuple(read(path) for path in sorted(FOLDER.glob("*.md")))


def read(path: Path) -> Story:
    """The story of a page."""
    return Story(path, tuple(_parts(path.read_text(encoding="utf-8").splitlines())))


def _parts(lines: list[str]) -> Iterator[Part]:
    at = 0
    while at < len(lines):
        begins, line = at + 1, lines[at]
        at += 1
        if line.startswith(_FENCE):
            end = lines.index(_FENCE, at)
            if line == f"{_FENCE}yaml":
                yield File(begins, "\n".join(lines[at:end]) + "\n")
            at = end + 1
        elif line.startswith(f"{_INDENT}$ "):
            text = line[len(_INDENT) + 2 :]
            while text.endswith("\\"):
                text = f"{text[:-1]} {lines[at].strip()}"
                at += 1
            output = []
            while at < len(lines) and lines[at].startswith(_INDENT) and not lines[at].startswith(f"{_INDENT}$ "):
                output.append(lines[at][len(_INDENT) :])
                at += 1
            yield Command(begins, text, tuple(output))
        elif line.startswith("> "):
            text = line[2:]
            while at < len(lines) and lines[at].startswith("> "):
                text += f" {lines[at][2:]}"
                at += 1
            yield from (Sentence(begins, sentence) for sentence in re.split(r"(?<=[.])\s+", text))


def _narrow(line: str) -> str:
    return " ".join(line.split())


def _pattern(line: str) -> str:
    if line.strip() == _ANYTHING:
        return r"(?:.*\n)*?"
    return ".*".join(re.escape(part) for part in _narrow(line).split(_ANYTHING)) + r"\n"
