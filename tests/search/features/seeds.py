"""What a seeded bug is, and how it gets into the core for as long as a search runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

# An attribute of a module or class, and what stands in its place.
Patch = tuple[Any, str, Any]


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug: the feature that finds it, the invariant that speaks, and what is wrong."""

    feature: str
    speaks: str
    what: str
    patches: Callable[[], list[Patch]]


@contextmanager
def seeded(bug: Bug) -> Iterator[None]:
    """The core with this bug."""
    with ExitStack() as stack:
        for target, name, replacement in bug.patches():
            if isinstance(target, dict):
                stack.enter_context(patch.dict(target, {name: replacement}))
            else:
                stack.enter_context(patch.object(target, name, replacement))
        yield
