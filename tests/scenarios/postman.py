"""Who listens to sagas in the stories: the notifications participant, which comes to work and goes home."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from participants.notifications import SERVICE
from participants.server import Participant
from participants.settings import ParticipantSettings


class Postman:
    """Tells customers how their orders have ended, while he is at work."""

    def __init__(self, dsn: str, replicas: Sequence[str]) -> None:
        self._settings = ParticipantSettings(dsn=dsn, listen="127.0.0.1:0", baton=",".join(replicas))
        self._at_work: Participant | None = None

    async def come(self) -> None:
        """Go on where he was."""
        self._at_work = Participant(SERVICE, self._settings)
        await self._at_work.start()
        await self._at_work.ready()

    async def go(self) -> None:
        """Hear nothing any more."""
        if self._at_work is not None:
            participant, self._at_work = self._at_work, None
            await participant.stop()

    async def told(self, saga_id: str) -> list[str]:
        """What the customer of a saga was told."""
        async with await psycopg.AsyncConnection.connect(self._settings.dsn, autocommit=True) as connection:
            query = "SELECT state FROM notifications.notification WHERE saga_id = %s ORDER BY id"
            return [row[0] for row in await (await connection.execute(query, [saga_id])).fetchall()]
