"""Hides what a definition marks as secret, wherever values of a saga are shown.

Pure. A path is names with dots between them, such as `card.number`; a list on the way is gone through, whether the path
says so (`cards[].number`) or not. What lies under a secret path is secret as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.saga.model import Saga

HIDDEN = "***"

# Shorter texts than this are part of too many words to be taken out of messages.
SCRUBBED_CHARS_MIN = 4

# For a value of which nobody knows what in it is secret: all of it is.
EVERYTHING = ("",)


@dataclass(frozen=True, slots=True)
class _Node:
    """What is secret at one name: all of it, or what its children say."""

    whole: bool
    children: dict[str, _Node]


def redacted(value: Any, paths: Collection[str]) -> Any:
    """A copy of a JSON value with `***` in place of what the paths name; the value itself if they name nothing."""
    if not paths:
        return value
    return _redacted(value, _tree(paths))


def secret_texts(value: Any, paths: Collection[str]) -> frozenset[str]:
    """What the paths name in a JSON value, as texts that `scrubbed` takes out of messages."""
    if not paths:
        return frozenset()
    found = (_spelled(item) for item in _scalars(_named(value, _tree(paths))))
    return frozenset(text for text in found if len(text) >= SCRUBBED_CHARS_MIN)


def known_secrets(saga: Saga) -> frozenset[str]:
    """The secrets of a saga's input, and of the results that it has so far, as texts for `scrubbed`."""
    definition = saga.definition
    found = [secret_texts(result, definition.step(position).secrets) for position, result in saga.results]
    return secret_texts(saga.input, definition.secrets).union(*found)


def blanked(value: Any, secrets: Any, paths: Collection[str]) -> Any:
    """A copy of `value`, such as a request, with `***` for all that was taken over from `secrets` under the paths.

    A text that has a secret inside it loses that part alone.
    """
    if not paths:
        return value
    exact = {_spelled(item) for item in _scalars(_named(secrets, _tree(paths)))}
    return _blanked(value, exact, secret_texts(secrets, paths))


def scrubbed(text: str, secrets: Collection[str]) -> str:
    """A message without the secrets that it quotes, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _tree(paths: Collection[str]) -> _Node:
    root = _Node("" in paths, {})
    for path in paths:
        node = root
        names = [name.partition("[")[0] for name in path.split(".")]
        for number, name in enumerate(names, start=1):
            child = node.children.get(name)
            if child is None or (number == len(names) and not child.whole):
                child = _Node(number == len(names), child.children if child else {})
                node.children[name] = child
            node = child
    return root


def _redacted(value: Any, node: _Node) -> Any:
    if isinstance(value, list):
        return [_redacted(item, node) for item in value]
    if isinstance(value, dict):
        # Under a secret the names stay, so that a reader sees that there is something.
        if node.whole:
            return {name: _redacted(item, node) for name, item in value.items()}
        return {
            name: _redacted(item, node.children[name]) if name in node.children else item
            for name, item in value.items()
        }
    return HIDDEN if node.whole and value is not None else value


def _named(value: Any, node: _Node) -> Iterator[Any]:
    """Every value that is secret as a whole."""
    if node.whole:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _named(item, node)
    elif isinstance(value, dict):
        for name, child in node.children.items():
            if name in value:
                yield from _named(value[name], child)


def _blanked(value: Any, exact: Collection[str], texts: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {name: _blanked(item, exact, texts) for name, item in value.items()}
    if isinstance(value, list):
        return [_blanked(item, exact, texts) for item in value]
    if value is not None and not isinstance(value, bool) and _spelled(value) in exact:
        return HIDDEN
    return scrubbed(value, texts) if isinstance(value, str) else value


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _scalars(values: Iterator[Any]) -> Iterator[Any]:
    pending = list(values)
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif value is not None and not isinstance(value, bool):
            yield value
