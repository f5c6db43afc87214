"""The consumer that docs/events.md shows is run as it stands there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from orchestrator.pb.baton.v1 import events_pb2
from orchestrator.saga.commands import Refused
from orchestrator.sagalog.migrate import migrate
from tests.integration.api_world import api_world
from tests.integration.test_event_stream import collect, run_sagas

GUIDE = Path(__file__).parents[2] / "docs" / "events.md"


async def test_the_consumer_of_the_guide_hears_of_every_end_and_goes_on_where_it_was(database: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    guide: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), guide)
    heard: list[tuple[str, str]] = []

    async def handle(event: events_pb2.Event) -> None:
        heard.append((event.saga_id, event.type))

    migrate(database)
    async with api_world(database) as api, api.leading():
        # The first replica is down.
        replicas = ["127.0.0.1:1", f"127.0.0.1:{api.served.port}"]
        expected: list[tuple[str, str]] = []
        for answer, type_ in ((None, "completed"), (Refused("FAILED_PRECONDITION", "no"), "compensated")):
            if answer is not None:
                api.participants.answers["pay"] = answer
            following = asyncio.create_task(guide["follow"](replicas, "guide", handle))
            expected += [(saga_id, f"baton.saga.v1.{type_}") for saga_id in await run_sagas(api, 2)]
            async with asyncio.timeout(30):
                while set(heard) != set(expected):
                    await asyncio.sleep(0.01)
                # Kept behind the last of them: the next run hears none of these again.
                while await collect_ends(api):
                    await asyncio.sleep(0.01)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    assert sorted(heard) == sorted(expected)


async def collect_ends(api: Any) -> list[events_pb2.StreamEventsResponse]:
    """Ends of sagas behind the position that is kept."""
    answers = await collect(api, consumer="guide", types=["baton.saga.v1.*"])
    return [answer for answer in answers if answer.HasField("event")]
