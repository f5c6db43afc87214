"""The examples of properties, where CI takes the same ones each time: they go by the code of the test and nothing else.

Hypothesis takes some of its values from the constants of our own code: of all modules that are loaded when it asks, if
they do not lie below a folder named `test`. So the examples of a test would change with a constant of the product, with
the tests that ran before it, and with the place of the clone. By hand that is welcome.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

# Raises AttributeError where this release of Hypothesis has no such thing any more.
OUR_CONSTANTS: Callable[[], Constants] = providers._get_local_constants


def take_constants_from(source: Callable[[], Constants]) -> None:
    """From now on Hypothesis takes such values from there: `OUR_CONSTANTS`, or `Constants` for none at all."""
    providers._get_local_constants = source  # type: ignore[assignment]
    providers.CONSTANTS_CACHE.cache.clear()


def fix() -> None:
    """Have Hypothesis take no value from our own code."""
    take_constants_from(Constants)
