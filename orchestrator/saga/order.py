"""Which steps of a definition come after which, found before the steps themselves are read.

Pure. A step may name in `after` steps that stand above it alone: so the list is in an order in which the steps may
run, and no step can come after itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.saga.fields import Reader, kind, shown


@dataclass(frozen=True, slots=True)
class Seat:
    """What the order says of one step: whose results exist when it runs, and whether the pivot is behind it then.

    `after` are positions, counted from 1. `ordered` says that the definition has a pivot.
    """

    position: int
    earlier: tuple[str, ...]
    after: tuple[int, ...]
    results: frozenset[str]
    behind_pivot: bool
    ordered: bool


def read_order(reader: Reader, entries: list[Any]) -> list[Seat]:
    """The seats of the steps in `entries`; what is wrong with an `after` is noted in `reader`."""
    outline = _Outline(entries)
    before: list[frozenset[int]] = []
    seats = []
    for index in range(len(entries)):
        after = outline.after(reader, index)
        ancestors = frozenset(after).union(*(before[position - 1] for position in after))
        before.append(ancestors)
        seats.append(
            Seat(
                position=index + 1,
                earlier=tuple(outline.names[:index]),
                after=after,
                results=frozenset(outline.names[position - 1] for position in ancestors) - {""},
                behind_pivot=outline.pivot in ancestors,
                ordered=outline.pivot > 0,
            )
        )
    return seats


class _Outline:
    """The names of all steps and what each says about its order, whatever else is wrong with them."""

    def __init__(self, entries: list[Any]) -> None:
        self._entries = [entry if isinstance(entry, dict) else {} for entry in entries]
        self.names = [name if isinstance(name := entry.get("name"), str) else "" for entry in self._entries]
        pivots = (number for number, entry in enumerate(self._entries, start=1) if entry.get("pivot") is True)
        self.pivot = next(pivots, 0)
        self._numbers = {name: number for number, name in reversed(list(enumerate(self.names, start=1))) if name}

    def after(self, reader: Reader, index: int) -> tuple[int, ...]:
        """The positions that the step waits for: by default the one above it."""
        entry = self._entries[index]
        listed = entry.get("after")
        if "after" not in entry:
            return (index,) if index else ()
        field = f"steps[{index}].after"
        if not isinstance(listed, list) or len(listed) > len(self._entries):
            reader.wrong(
                field, f"must be a list of the names of earlier steps, or [] to begin at once; not {kind(listed)}"
            )
            return ()
        found: list[int] = []
        for number, name in enumerate(listed):
            position = self._numbers.get(name, 0) if isinstance(name, str) else 0
            if not position:
                known = ", ".join(filter(None, self.names[:index])) or "none"
                reader.wrong(f"{field}[{number}]", f"{shown(name)} is not the name of a step above; there are {known}")
            elif position > index:
                reader.wrong(f"{field}[{number}]", self._too_late(index, position))
            elif position in found:
                reader.wrong(f"{field}[{number}]", f"{name!r} is there twice")
            else:
                found.append(position)
        return tuple(sorted(found))

    def _too_late(self, index: int, position: int) -> str:
        """Why a step cannot come after one that does not stand above it."""
        if position == index + 1:
            return "names the step itself; a step cannot come after itself"
        cycle = self._way(position, index + 1)
        if cycle is None:
            return f"{self.names[position - 1]!r} stands below this step; move it above"
        names = " after ".join(self.names[number - 1] or f"step {number}" for number in (index + 1, *cycle))
        return f"makes a cycle: {names}; a step that says nothing comes after the one above it"

    def _way(self, start: int, end: int) -> list[int] | None:
        """The way from a step over those that it comes after to another; None if there is none."""
        ways: dict[int, int] = {start: 0}
        pending = [start]
        while pending:
            number = pending.pop()
            if number == end:
                way = [number]
                while ways[way[-1]]:
                    way.append(ways[way[-1]])
                return way[::-1]
            for further in self._named(number):
                if further not in ways:
                    ways[further] = number
                    pending.append(further)
        return None

    def _named(self, number: int) -> list[int]:
        entry = self._entries[number - 1]
        listed = entry.get("after", None)
        if "after" not in entry:
            return [number - 1] if number > 1 else []
        names = listed if isinstance(listed, list) else []
        return [self._numbers[name] for name in names if isinstance(name, str) and name in self._numbers]
