"""How the YAML text of a definition is read, and checked as far as no definition can be made of it otherwise.

Pure: text in, values out. What can be read but should not run is found by the linter (lint.py); what a definition
says about gRPC methods is checked against their descriptors in driving/registry.py, since that needs the participants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Any

from orchestrator.errors import FieldViolation, Rejected
from orchestrator.saga.definition import Definition, HoldStarts, Step
from orchestrator.saga.document import Place, read_placed
from orchestrator.saga.fields import VIOLATIONS_MAX, YEAR_S, Reader, kind, shown
from orchestrator.saga.order import read_order
from orchestrator.saga.parse_step import DEFINITION_NAME, DEFINITION_NAME_RULE, read_step

__all__ = ["STEPS_MAX", "VIOLATIONS_MAX", "locate", "parse"]

STEPS_MAX = 100
HOLD_OF_LAST_DEFAULT = 20
HOLD_OF_LAST_MAX = 10_000
HOLD_FOR_DEFAULT_S = 300.0
_DESCRIPTION_CHARS = 900

_FIELDS = {"name", "description", "within", "compensate", "secrets", "hold_starts", "certified", "steps"}


class _Compensate(StrEnum):
    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"


def parse(text: str, version: int = 0) -> Definition:
    """Read the YAML `text` of a definition.

    Raises Rejected with one violation for each wrong field, all of them at once, each with its line.
    """
    document, place = read_placed(text)
    reader = Reader()
    definition = _definition(reader, document, version)
    if definition is None or reader.violations:
        raise Rejected("the definition is not valid", tuple(_located(reader.violations, document, place)))
    return definition


def locate(text: str, violations: Iterable[FieldViolation]) -> tuple[FieldViolation, ...]:
    """What is wrong with the definition in `text`, with the lines and the steps of the fields that it names.

    Raises Rejected if the text is not YAML.
    """
    return tuple(_located(violations, *read_placed(text)))


def _located(violations: Iterable[FieldViolation], document: Any, place: Place) -> Iterable[FieldViolation]:
    entries = document.get("steps") if isinstance(document, dict) else None
    for violation in violations:
        step = ""
        index, bracket, _ = violation.field.removeprefix("steps[").partition("]")
        if bracket and violation.field.startswith("steps[") and isinstance(entries, list):
            entry = entries[int(index)] if index.isdecimal() and int(index) < len(entries) else None
            name = entry.get("name") if isinstance(entry, dict) else None
            step = f"{name:.100}" if isinstance(name, str) else ""
        description = violation.description
        if len(description) > _DESCRIPTION_CHARS:
            # A definition may have names of any length, until they are refused.
            description = f"{description[:_DESCRIPTION_CHARS]}…"
        yield replace(violation, description=description, line=place.line_of(violation.field), step=step)


def _definition(reader: Reader, document: Any, version: int) -> Definition | None:
    fields = reader.mapping(document, "", _FIELDS, {"name", "steps"})
    if fields is None:
        return None
    name = reader.text(fields.get("name", "unnamed"), "name", DEFINITION_NAME, DEFINITION_NAME_RULE)
    description = fields.get("description", "")
    if not isinstance(description, str):
        reader.wrong("description", f"must be text, not {kind(description)}")
    certified = fields.get("certified")
    if certified not in (None, "required"):
        reader.wrong("certified", f"{shown(certified)} must be left out, or say `required`")
    compensate = reader.choice(fields.get("compensate"), "compensate", _Compensate, _Compensate.SEQUENTIAL)
    steps = _steps(reader, fields)
    if steps is None:
        return None
    return Definition(
        name=name,
        version=version,
        steps=steps,
        description=str(description),
        within_s=reader.optional_seconds(fields.get("within"), "within"),
        parallel_compensation=compensate is _Compensate.PARALLEL,
        secrets=reader.secrets(fields.get("secrets"), "secrets"),
        hold_starts=_hold_starts(reader, fields.get("hold_starts")),
        certified=certified == "required",
    )


def _steps(reader: Reader, fields: dict[str, Any]) -> tuple[Step, ...] | None:
    listed = fields.get("steps", [])
    if not isinstance(listed, list) or ("steps" in fields and not 1 <= len(listed) <= STEPS_MAX):
        reader.wrong("steps", f"must be a list of 1 to {STEPS_MAX} steps")
        return None
    seats = read_order(reader, listed)
    read = [read_step(reader, entry, f"steps[{index}]", seats[index]) for index, entry in enumerate(listed)]
    return tuple(step for step in read if step is not None)


def _hold_starts(reader: Reader, value: Any) -> HoldStarts | None:
    if value is None:
        return None
    fields = reader.mapping(value, "hold_starts", {"share", "of_last", "for"}, {"share"})
    if fields is None:
        return None
    return HoldStarts(
        share=reader.number(fields.get("share"), "hold_starts.share", 1.0, 0, 1),
        of_last=reader.whole(fields.get("of_last"), "hold_starts.of_last", HOLD_OF_LAST_DEFAULT, 1, HOLD_OF_LAST_MAX),
        for_s=reader.seconds(fields.get("for"), "hold_starts.for", HOLD_FOR_DEFAULT_S, YEAR_S),
    )
