"""Loads named queries from the .sql files beside this module, where every query of the saga log stands.

A query begins with a line `-- name: its_name`; comment lines below that say why it is as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(file_name: str) -> Mapping[str, str]:
    """The queries of a file by their names, without comments. Raises ValueError when a name stands there twice."""
    text = (files(__package__) / file_name).read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    queries: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in queries:
            raise ValueError(f"{file_name} has two queries named {name}")
        lines = (line for line in body.splitlines() if not line.startswith("--"))
        queries[name] = "\n".join(lines).strip().rstrip(";")
    return MappingProxyType(queries)
