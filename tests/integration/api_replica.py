"""A process that serves the API on a database and a port, without a campaign: for tests that kill it."""

from __future__ import annotations

import asyncio
import sys

from orchestrator.api import saga_service
from orchestrator.sagalog.port import StoredDefinition
from tests.integration.api_serving import serving
from tests.integration.api_world import definition, descriptors

# A caller that waits is answered in the middle of its time, not a tenth of a second before its end, which has passed
# when the machine stands still for as long.
saga_service._ANSWER_EARLY_S = 60.0


async def main(dsn: str, port: int) -> None:
    """Serve until killed, with the definition `order` applied."""
    async with serving(dsn, listen=f"127.0.0.1:{port}") as served:
        stored: tuple[StoredDefinition, bool] = await served.registry.apply(definition(), descriptors())
        print(f"serving {stored[0].name} {stored[0].version} on {served.port}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
