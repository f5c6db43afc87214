"""How long a caller waits for the leader to go by what was stored for it, and how often that is looked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

_PATIENCE_S = 5.0
_LOOK_FIRST_S = 0.01
_LOOK_MOST_S = 0.2


def patience_s(left_s: float | None) -> float:
    """How long a caller waits: five seconds, or half of the `left_s` seconds to its deadline if it has one."""
    return _PATIENCE_S if left_s is None else max(0.0, min(_PATIENCE_S, left_s / 2))


async def looks(left_s: float | None) -> AsyncIterator[None]:
    """Wait, longer each time, and let the caller look; until its patience is over."""
    look_s = _LOOK_FIRST_S
    give_up_at_s = asyncio.get_running_loop().time() + patience_s(left_s)
    while asyncio.get_running_loop().time() < give_up_at_s:
        await asyncio.sleep(look_s)
        look_s = min(look_s * 1.5, _LOOK_MOST_S)
        yield
