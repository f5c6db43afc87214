"""Variables in the text of a definition, filled in by whoever reads the file. Pure: the values are passed in.

`${NAME}` must be set; `${NAME:-default}` has a default; `$${` stands for `${`. What is stored is the expanded text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.errors import FieldViolation, Rejected

_VARIABLE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def expand(text: str, values: Mapping[str, str]) -> str:
    """The text with every variable filled in. Raises Rejected, naming each variable that has no value."""
    missing: list[str] = []

    def fill(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return "${"
        value = values.get(name) or default
        if value is None:
            missing.append(name)
            return ""
        return value

    expanded = _VARIABLE.sub(fill, text)
    if missing:
        unset = [FieldViolation(name, "is not set, and has no default") for name in dict.fromkeys(missing)]
        raise Rejected("the definition reads variables that are not set", tuple(unset))
    return expanded
