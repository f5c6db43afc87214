"""Requests made from a template: every check needs an order, a customer or whatever it is of its own.

`$ID` within any text becomes an id that no other case has. A text that is `$RESULT.a.b` as a whole becomes that part of
the action's answer, for compensations that need it; where there was no answer, the field is left out.

Pure: no I/O.
"""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.certify.findings import CannotCertify
from orchestrator.saga.model import Json

ID = "$ID"
RESULT = "$RESULT."


class Template:
    """A request as JSON, with places to fill."""

    def __init__(self, value: Json) -> None:
        self._value = value
        self.unique = ID in orjson.dumps(value).decode()

    def fill(self, identity: str, result: Json | None = None) -> Json:
        """The request of one case."""
        filled: Json = _fill(self._value, identity, result)
        return filled


def parse(text: str, option: str) -> Template:
    """The template that a text of JSON is. Raises CannotCertify naming the option that gave it."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CannotCertify(f"{option}: is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CannotCertify(f"{option}: must be a JSON object, the fields of the request message")
    return Template(value)


def _fill(value: Any, identity: str, result: Json | None) -> Any:
    match value:
        case dict():
            return {key: _fill(item, identity, result) for key, item in value.items()}
        case list():
            return [_fill(item, identity, result) for item in value]
        case str() if value.startswith(RESULT):
            return _at(result, value.removeprefix(RESULT).split("."))
        case str():
            return value.replace(ID, identity)
        case _:
            return value


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
