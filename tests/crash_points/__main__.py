"""`python -m tests.crash_points [--exact] [FLOW...]`: strikes every crash point, all pairs of them, and counts."""

from __future__ import annotations

import os
import sys
import time

from .flows import names
from .report import explore_all, lines


def main(arguments: list[str]) -> int:
    """The exit status: 1 when an invariant was violated, 2 for a flow that is not known."""
    chosen = [argument for argument in arguments if argument != "--exact"] or names()
    if unknown := sorted(set(chosen) - set(names())):
        print(f"no such flow: {', '.join(unknown)}; known are {', '.join(names())}", file=sys.stderr)
        return 2
    began_s = time.monotonic()
    explored = list(explore_all(chosen, os.cpu_count() or 1, exact="--exact" in arguments))
    print("\n".join(lines(explored, time.monotonic() - began_s)))
    return 1 if any(one.tally.violations for one in explored) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
