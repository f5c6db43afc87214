"""How long the fuzz tests run: seconds in CI, as long as somebody likes with `BATON_FUZZ_TIMES`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# 1 is what CI runs. `BATON_FUZZ_TIMES=50 python -m pytest -m fuzz` looks fifty times as long.
TIMES = int(os.environ.get("BATON_FUZZ_TIMES", "1"))


def rounds(examples: int) -> settings:
    """Settings for a property that is tried on so many examples in CI. Chance is not fixed: every run looks anew.

    What it finds is printed as a blob that repeats it. No deadline for an example: other processes are involved, and
    tests of time measure it themselves.
    """
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=False,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )
