"""How long the fuzz tests run: seconds in CI, as long as somebody likes with `BATON_FUZZ_TIMES`.

CI tries the same examples each time, as it must say the same of the same code: Hypothesis takes them from the code of
the test. By hand every run looks anew.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_FIXED = "CI" in os.environ and "BATON_FUZZ_TIMES" not in os.environ
# 1 is what CI runs. `BATON_FUZZ_TIMES=50 python -m pytest -m fuzz` looks fifty times as long.
TIMES = int(os.environ.get("BATON_FUZZ_TIMES", "1"))


def rounds(examples: int) -> settings:
    """Settings for a property that is tried on so many examples in CI.

    What it finds is printed as a blob that repeats it. No deadline for an example: other processes are involved, and
    tests of time measure it themselves.
    """
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=_FIXED,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )
