"""Loads named queries from the .sql files beside this module, where every query of the saga log stands.

A query begins with a line `-- name: its_name`; comment lines below that say why it is as it is. Each is an effect with
failpoints, named by the file and the query.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from orchestrator.failpoints.effects import EFFECTS, Effect

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement on Postgres, and the effect under which it is known."""

    effect: Effect
    text: bytes


@cache
def load(file_name: str) -> Mapping[str, Statement]:
    """The queries of a file by their names, without comments.

    Raises ValueError when a name stands there twice, or is no effect yet.
    """
    text = (files(__package__) / file_name).read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    queries: dict[str, Statement] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        effect = f"{file_name.removesuffix('.sql')}.{name}"
        if name in queries:
            raise ValueError(f"{file_name} has two queries named {name}")
        if effect not in EFFECTS:
            raise ValueError(f"{effect} is no effect: say what it does in failpoints/effects.py")
        lines = (line for line in body.splitlines() if not line.startswith("--"))
        queries[name] = Statement(EFFECTS[effect], "\n".join(lines).strip().rstrip(";").encode())
    return MappingProxyType(queries)
