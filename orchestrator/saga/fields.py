"""Reads the fields of a definition out of plain values, and collects all that is wrong with them.

Pure: every method takes a value and the path of its field, and returns something of the right type in any case.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, TypeVar

from orchestrator.errors import FieldViolation

# As much of what is wrong is named, and of a wrong value shown, as helps somebody.
VIOLATIONS_MAX = 50
_SHOWN_CHARS = 60

DAY_S = 86_400.0
YEAR_S = 366 * DAY_S

_ADDRESS = re.compile(r"[!-.0-~]{1,255}:([0-9]{1,5})")
_PORT_MAX = 65535
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h|d)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_S, None: 1.0}
# A path to what is secret: names, and `[]` where a list is passed through.
SECRET_PATH = re.compile(r"[A-Za-z_][\w-]{0,99}(?:\[\*?\])?(?:\.[A-Za-z_][\w-]{0,99}(?:\[\*?\])?){0,19}", re.ASCII)
SECRETS_MAX = 50

# Every code of gRPC but OK, which says that there is nothing to overrule.
CODES = (
    *("CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)

_Choice = TypeVar("_Choice", bound=StrEnum)


class Reader:
    """Reads fields out of parsed YAML and collects what is wrong with them."""

    def __init__(self) -> None:
        self.violations: list[FieldViolation] = []

    def wrong(self, field: str, description: str) -> None:
        """Note what is wrong with a field, unless very much is wrong already."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(FieldViolation(field, description))

    def mapping(self, value: Any, field: str, known: set[str], required: set[str]) -> dict[str, Any] | None:
        """A mapping that has these fields; None when it is none at all."""
        if not isinstance(value, dict):
            self.wrong(field or "definition", f"must be a mapping, not {kind(value)}")
            return None
        prefix = f"{field}." if field else ""
        for name in value:
            if name not in known:
                # A name of no characters is shown as such.
                wrong = f"{prefix}{str(name) or repr(name):.{_SHOWN_CHARS}}"
                self.wrong(wrong, f"is not a field here; known are {', '.join(sorted(known))}")
        for name in sorted(required - value.keys()):
            self.wrong(f"{prefix}{name}", "is missing")
        return value

    def text(self, value: Any, field: str, pattern: re.Pattern[str], rule: str) -> str:
        """A text of the pattern, which `rule` puts into words."""
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.wrong(field, f"{shown(value)} is not {rule}")
            return ""
        return value

    def prose(self, value: Any, field: str, chars_max: int) -> str:
        """A text for people."""
        if value is None:
            return ""
        if not isinstance(value, str):
            self.wrong(field, f"must be text, not {kind(value)}")
            return ""
        if len(value) > chars_max:
            self.wrong(field, f"has {len(value)} characters; {chars_max} are allowed")
        return value

    def seconds(self, value: Any, field: str, default_s: float, longest_s: float = DAY_S) -> float:
        """A time in seconds, from one millisecond up to a day, or to the year that is asked for."""
        seconds = default_s if value is None else self.optional_seconds(value, field, longest_s)
        return default_s if seconds is None else seconds

    def optional_seconds(self, value: Any, field: str, longest_s: float = YEAR_S) -> float | None:
        """A time in seconds, or None where it is left out."""
        if value is None:
            return None
        match = None if isinstance(value, bool) else _DURATION.fullmatch(str(value))
        seconds = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
        if not 0.001 <= seconds <= longest_s:
            longest = "24h" if longest_s == DAY_S else "366d"
            self.wrong(field, f"{shown(value)} is not a time such as 500ms, 5s or 2m, from 1ms to {longest}")
            return None
        return seconds

    def number(self, value: Any, field: str, default: float, low: float, high: float) -> float:
        """A number within bounds."""
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.wrong(field, f"{shown(value)} is not a number from {low:g} to {high:g}")
            return default
        return value

    def whole(self, value: Any, field: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds."""
        number = self.number(value, field, default, low, high)
        if number != int(number):
            self.wrong(field, f"{number!r} is not a whole number")
        return int(number)

    def truth(self, value: Any, field: str, *, default: bool = False) -> bool:
        """True or false."""
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.wrong(field, f"{shown(value)} is neither true nor false")
        return default

    def choice(self, value: Any, field: str, choices: type[_Choice], default: _Choice) -> _Choice:
        """One of some words."""
        if value is None:
            return default
        if isinstance(value, str) and value in [choice.value for choice in choices]:
            return choices(value)
        self.wrong(field, f"{shown(value)} is none of {', '.join(choice.value for choice in choices)}")
        return default

    def texts(self, value: Any, field: str, pattern: re.Pattern[str], rule: str, most: int) -> tuple[str, ...]:
        """A list of different texts of the pattern; none where it is left out."""
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > most:
            self.wrong(field, f"must be a list of at most {most}, not {kind(value)}")
            return ()
        found = [self.text(item, f"{field}[{index}]", pattern, rule) for index, item in enumerate(value)]
        for index, item in enumerate(found):
            if item and item in found[:index]:
                self.wrong(f"{field}[{index}]", f"{item!r} is there twice")
        return tuple(item for item in found if item)

    def secrets(self, value: Any, field: str) -> tuple[str, ...]:
        """Paths to what nobody is shown."""
        return self.texts(value, field, SECRET_PATH, "a path such as card.number", SECRETS_MAX)

    def codes(self, value: Any, field: str) -> frozenset[str]:
        """Names of gRPC codes."""
        if value is None:
            return frozenset()
        if not isinstance(value, list) or len(value) > len(CODES):
            self.wrong(field, f"must be a list of gRPC codes such as [ABORTED], at most {len(CODES)}")
            return frozenset()
        for index, code in enumerate(value):
            if code not in CODES:
                self.wrong(f"{field}[{index}]", f"{shown(code)} is none of {', '.join(CODES)}")
        return frozenset(code for code in value if isinstance(code, str) and code in CODES)

    def address(self, value: Any, field: str) -> str:
        """Whatever gRPC takes for a host, an IPv6 address or a DNS name of 253 characters among it, and a port."""
        address = self.text(value, field, _ADDRESS, "an address host:port")
        if address and int(address.rpartition(":")[2]) > _PORT_MAX:
            self.wrong(field, f"{shown(address)} names a port beyond {_PORT_MAX}")
        return address


def shown(value: Any) -> str:
    """A wrong value for a message, or the beginning of it."""
    return f"{value!r:.{_SHOWN_CHARS}}"


def kind(value: Any) -> str:
    """What a value is, in words."""
    if value is None:
        return "nothing"
    return {dict: "a mapping", list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
