"""Loads named queries from the .sql files of a package folder."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable

_NAME = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)


def load_queries(name: str, folder: Traversable | None = None) -> dict[str, bytes]:
    """The queries of `name`.sql by their names; each begins with a line `-- name: the_name`.

    `folder` defaults to the kit's own queries.
    """
    text = ((folder or files("participants") / "queries") / f"{name}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {title: body.strip().removesuffix(";").encode() for title, body in zip(parts[::2], parts[1::2], strict=True)}
